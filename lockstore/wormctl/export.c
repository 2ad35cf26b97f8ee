/* export: a signed list of what is locked, which others can check without wormfs.
 *
 * The signature is over export.sha256, which has the digests of the other files: Ed25519 signs a message at once,
 * and this one is small whatever the share. It is written last; a directory without it is no export. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/audit_files.h"
#include "lockstore/retention.h"
#include "lockstore/sha256.h"
#include "lockstore/wormctl/offline.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/signing.h"
#include "lockstore/wormctl/subject.h"
#include "lockstore/wormctl/wormctl.h"

enum { SUMS, MANIFEST, LIST, SIGNATURE, PUBLIC_KEY, NFILES };
static const char *const names[NFILES] = {
	[SUMS] = "SHA256SUMS", [MANIFEST] = "manifest.jsonl", [LIST] = "export.sha256", [SIGNATURE] = "export.sha256.sig",
	[PUBLIC_KEY] = "export.pub",
};
#define RULE_OF_MOUNT "mount options"

struct export {
	struct wormctl *ctl;
	struct subject subject;
	const char *dir;
	int dir_fd;
	bool made_dir;
	FILE *files[NFILES];
	uint64_t count, bytes, missing;		/* files; of these, without a digest */
	bool tty;
	time_t shown_s;
};

/* ---- one file ---- */

/* NULL, or why there is no digest. */
static const char *take_digest(struct export *e, const struct ledger_row *row, uint8_t ret_sha256[SHA256_BYTES])
{
	struct stat before, after;
	int path_fd, fd, r;

	r = subject_open_row(&e->subject, row->path, &row->key, &path_fd);
	if (r < 0) {
		if (path_fd >= 0)
			close(path_fd);
		return r == -ENOENT ? "it is not there" : r == -ESTALE ? "another file has its name" : strerror(-r);
	}
	fd = sha256_open(path_fd, SHA256_OF_DISK);
	close(path_fd);
	if (fd < 0)
		return strerror(-fd);
	r = fstat(fd, &before) < 0 ? -errno : 0;
	if (r == 0)
		r = sha256_file(fd, SHA256_OF_DISK, NULL, NULL, ret_sha256, NULL);
	if (r == 0 && fstat(fd, &after) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		return strerror(-r);
	if ((uint64_t)before.st_size != row->rec.size_bytes || after.st_size != before.st_size ||
	    before.st_mtim.tv_sec * INT64_C(1000000000) + before.st_mtim.tv_nsec != row->rec.mtime_ns ||
	    after.st_mtim.tv_sec != before.st_mtim.tv_sec || after.st_mtim.tv_nsec != before.st_mtim.tv_nsec)
		return "its size or modification time is not what it was when it was locked";
	return NULL;
}

static int on_hold(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	json_array_append_new(arg, json_text(case_name));
	return 0;
}

static json_t *time_json(int64_t t_s)
{
	char text[RETENTION_TEXT_BYTES];

	retention_format_until(t_s, text);
	return json_string(text);
}

static json_t *row_json(struct export *e, const struct ledger_row *row, const char *sha256, const char *source)
{
	json_t *json = json_object(), *holds = json_array();
	struct lock_record rec = row->rec;

	if (!json || !holds || json_set_path(json, row->path) < 0) {
		json_decref(json);
		json_decref(holds);
		return NULL;
	}
	if (row->holds > rec.holds)
		rec.holds = row->holds > UINT16_MAX ? UINT16_MAX : (uint16_t)row->holds;
	(void)ledger_holds(e->subject.ledger, &row->key, on_hold, holds);	/* fewer names than hold_count say it */
	json_object_set_new(json, "size", json_integer((json_int_t)rec.size_bytes));
	json_object_set_new(json, "sha256", sha256 ? json_string(sha256) : json_null());
	json_object_set_new(json, "sha256_taken", source ? json_string(source) : json_null());
	json_object_set_new(json, "state", json_string(record_state_name(&rec, e->subject.now_s)));
	json_object_set_new(json, "until", time_json(rec.until_s));
	json_object_set_new(json, "mode", json_string(worm_mode_name(rec.mode)));
	json_object_set_new(json, "holds", holds);
	json_object_set_new(json, "hold_count", json_integer(rec.holds));
	json_object_set_new(json, "committed", time_json(rec.committed_s));
	json_object_set_new(json, "serial", json_integer((json_int_t)rec.serial));
	json_object_set_new(json, "rule", json_text(*row->rule ? row->rule : RULE_OF_MOUNT));
	json_object_set_new(json, "mtime_ns", json_integer(rec.mtime_ns));
	json_object_set_new(json, "uid", json_integer(row->uid));
	json_object_set_new(json, "gid", json_integer(row->gid));
	return json;
}

/* Takes the reference. */
static int write_line(FILE *out, json_t *json)
{
	int r = json ? 0 : -ENOMEM;

	errno = 0;
	if (r == 0 && (json_dumpf(json, out, JSON_COMPACT) < 0 || fputc('\n', out) == EOF))
		r = errno ? -errno : -EIO;
	json_decref(json);
	return r;
}

static void show_progress(struct export *e)
{
	time_t now = time(NULL);

	if (!e->tty || now == e->shown_s)
		return;
	e->shown_s = now;
	fprintf(stderr, "\r\033[K%llu files", (unsigned long long)e->count);
}

static int on_row(void *arg, const struct ledger_row *row)
{
	const char *why = NULL, *source = "at lock";
	char text[SHA256_TEXT_BYTES];
	uint8_t taken[SHA256_BYTES];
	const uint8_t *sha256 = row->sha256;
	struct export *e = arg;

	if (!sha256) {
		why = take_digest(e, row, taken);
		sha256 = why ? NULL : taken;
		source = why ? NULL : "at export";
	}
	if (sha256) {
		sha256_format(sha256, text);
		sha256_print_line(e->files[SUMS], sha256, row->path);
	} else {
		if (e->tty)
			fputs("\r\033[K", stderr);
		complain("no digest of %s: %s", quoted(row->path), why);
		e->missing++;
	}
	e->count++;
	e->bytes += row->rec.size_bytes;
	show_progress(e);
	return write_line(e->files[MANIFEST], row_json(e, row, sha256 ? text : NULL, source));
}

/* ---- the directory ---- */

/* A file that is new, durable when close_file() returns 0. */
static int open_file(struct export *e, int which)
{
	int fd = openat(e->dir_fd, names[which], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	e->files[which] = fd < 0 ? NULL : fdopen(fd, "w");
	if (fd >= 0 && !e->files[which])
		close(fd);
	return e->files[which] ? 0 : -errno;
}

static int close_file(struct export *e, int which)
{
	FILE *file = e->files[which];
	int r = fflush(file) != 0 || ferror(file) || fsync(fileno(file)) < 0 ? -errno : 0;

	if (r == 0 && ferror(file))
		r = -EIO;
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	e->files[which] = NULL;
	return r;
}

/* A file of the export that is complete into the list that is signed. */
static int list_file(struct export *e, int which)
{
	int fd = openat(e->dir_fd, names[which], O_RDONLY | O_CLOEXEC), r;
	uint8_t sha256[SHA256_BYTES];

	if (fd < 0)
		return -errno;
	r = sha256_file(fd, SHA256_OF_DATA, NULL, NULL, sha256, NULL);
	close(fd);
	if (r == 0)
		sha256_print_line(e->files[LIST], sha256, names[which]);
	return r;
}

/* The end of the chain: who keeps the export can show later that the log was cut or rewritten. Null: there is no log. */
static json_t *audit_head_json(const struct export *e)
{
	int fd = open(e->subject.share->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct audit_end end = { 0 };
	int r = fd < 0 ? -errno : audit_files_end(fd, &end);

	if (fd >= 0)
		close(fd);
	if (r < 0 || end.damaged)
		complain("the export has no head of the audit log: %s", r < 0 ? strerror(-r) : "its last line was changed, run wormctl audit verify");
	if (r < 0 || end.damaged || !end.link.seq)
		return json_null();
	return json_pack("{s:I,s:s}", "seq", (json_int_t)end.link.seq, "hash", end.link.hash);
}

static int write_rows(struct export *e)
{
	struct ledger_filter filter = { .prefix = e->subject.path };
	int r;

	r = write_line(e->files[MANIFEST],
		       json_pack("{s:{s:i,s:s,s:s,s:o,s:o,s:o,s:o}}", "manifest", "version", 1, "wormfs", WORMFS_VERSION, "share_id",
				 e->subject.share->id, "share", json_text(subject_name(&e->subject)), "below",
				 json_text(e->subject.path), "made", time_json(e->subject.now_s), "audit_head",
				 audit_head_json(e)));
	if (r == 0)
		r = ledger_each(e->subject.ledger, &filter, on_row, e);
	if (r == 0)
		r = write_line(e->files[MANIFEST], json_pack("{s:{s:I,s:I,s:I}}", "end", "files", (json_int_t)e->count, "bytes",
							     (json_int_t)e->bytes, "without_digest", (json_int_t)e->missing));
	if (e->tty)
		fputs("\r\033[K", stderr);
	return r;
}

static int write_signature(struct export *e, struct signing_key *key)
{
	uint8_t signature[SIGNATURE_BYTES];
	char list[512];
	ssize_t n;
	int fd, r;

	fd = openat(e->dir_fd, names[LIST], O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, list, sizeof(list));
	r = n < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (r == 0)
		r = signing_sign(key, list, (size_t)n, signature);
	if (r == 0)
		r = open_file(e, SIGNATURE);
	if (r == 0 && fwrite(signature, sizeof(signature), 1, e->files[SIGNATURE]) != 1)
		r = -EIO;
	return r == 0 ? close_file(e, SIGNATURE) : r;
}

static int write_all(struct export *e, struct signing_key *key)
{
	static const int listed[] = { SUMS, MANIFEST, PUBLIC_KEY };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(listed); i++)
		r = open_file(e, listed[i]);
	if (r == 0)
		r = signing_write_public(key, e->files[PUBLIC_KEY]);
	if (r == 0)
		r = write_rows(e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(listed); i++)
		r = close_file(e, listed[i]);
	if (r == 0)
		r = open_file(e, LIST);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(listed); i++)
		r = list_file(e, listed[i]);
	if (r == 0)
		r = close_file(e, LIST);
	if (r == 0)
		r = write_signature(e, key);
	if (r == 0 && fsync(e->dir_fd) < 0)
		r = -errno;
	return r;
}

/* Empty, or new. */
static int open_dir(struct export *e, struct failure *f)
{
	e->made_dir = mkdir(e->dir, 0700) == 0;
	if (!e->made_dir && errno != EEXIST)
		return fail(f, -errno, "cannot make the directory %s: %s", quoted(e->dir), strerror(errno));
	e->dir_fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->dir_fd < 0)
		return fail(f, -errno, "cannot open the directory %s: %s", quoted(e->dir), strerror(errno));
	for (int i = 0; i < NFILES; i++)
		if (faccessat(e->dir_fd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return fail(f, -EEXIST, "there is an export in %s already: name another directory with --out DIR",
				    quoted(e->dir));
	return 0;
}

/* Nothing is left of one that failed. */
static void undo(struct export *e)
{
	for (int i = 0; i < NFILES; i++) {
		if (e->files[i])
			(void)fclose(e->files[i]);
		(void)unlinkat(e->dir_fd, names[i], 0);
	}
	if (e->made_dir)
		(void)rmdir(e->dir);
}

static int run_subject(struct export *e, char ret_fingerprint[SHA256_TEXT_BYTES], struct failure *f)
{
	struct signing_key *key = NULL;
	int r;

	r = signing_key_open(e->subject.share->state_dir, &key, f);
	if (r < 0)
		return r;
	r = open_dir(e, f);
	if (r < 0)
		goto out;
	r = signing_fingerprint(key, ret_fingerprint);
	if (r == 0)
		r = write_all(e, key);
	if (r < 0) {
		undo(e);
		fail(f, r, "cannot write the export to %s: %s", quoted(e->dir),
		     *ledger_error(e->subject.ledger) ? ledger_error(e->subject.ledger) : strerror(-r));
	}
out:
	signing_key_close(key);
	return r;
}

static void print_result(const struct export *e, const char *fingerprint)
{
	if (e->ctl->json) {
		(void)print_json(json_pack("{s:o,s:I,s:I,s:I,s:s}", "out", json_text(e->dir), "files", (json_int_t)e->count, "bytes",
					   (json_int_t)e->bytes, "without_digest", (json_int_t)e->missing, "key", fingerprint));
		return;
	}
	printf("%llu files, %llu bytes, in ", (unsigned long long)e->count, (unsigned long long)e->bytes);
	print_name(stdout, e->dir);
	if (e->missing)
		printf("; %llu without a digest", (unsigned long long)e->missing);
	printf("\nsigned with key %s\n", fingerprint);
}

enum { OPT_OUT = OPT_OF_COMMAND };

static int run_export(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { "out", required_argument, NULL, OPT_OUT }, { 0 } };
	struct export e = { .ctl = ctl, .dir_fd = -1, .tty = isatty(STDERR_FILENO) };
	char fingerprint[SHA256_TEXT_BYTES], name[64];
	time_t now = time(NULL);
	struct shares *shares;
	struct failure f;
	struct tm tm;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == OPT_OUT) {
			e.dir = optarg;
			continue;
		}
		r = common_option(ctl, &command_export, c, argv);
		if (r >= 0)
			return r;
	}
	if (argc - optind > 1)
		return wrong_usage(&command_export, "one PATH at a time");
	if (!e.dir) {
		strftime(name, sizeof(name), "wormfs-export-%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
		e.dir = name;
	}
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = subject_open(ctl, shares, optind < argc ? argv[optind] : NULL, SUBJECT_DATA, &e.subject, &f);
	if (r == 0)
		r = run_subject(&e, fingerprint, &f);
	if (r == 0)
		print_result(&e, fingerprint);
	else
		complain("%s", f.text);
	if (e.dir_fd >= 0)
		close(e.dir_fd);
	subject_close(&e.subject);
	shares_close(shares);
	return finish_output(r < 0 ? EXIT_COULD_NOT : e.missing ? EXIT_NO : EXIT_YES);
}

const struct command command_export = {
	.name = "export",
	.summary = "write a signed list of what is locked, checkable without wormfs",
	.help =
	"Usage: wormctl export [--out DIR] [PATH]\n"
	"\n"
	"Writes what the ledger knows about the locked files at and below PATH into a new directory, for an\n"
	"auditor, or to be kept elsewhere. Also with the mount stopped. Without PATH: the share that the\n"
	"working directory is in, or the one that is mounted.\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"  SHA256SUMS         for sha256sum -c, in the root of the share\n"
	"  manifest.jsonl     one JSON object a file: path, size, sha256, sha256_taken (at lock, or at export: the\n"
	"                     daemon had not come to it), state, until, mode, holds, hold_count, committed, serial,\n"
	"                     rule, mtime_ns, uid, gid; the first line is about the share (and the head of the\n"
	"                     audit log), the last one counts\n"
	"  export.pub         the public key\n"
	"  export.sha256      digests of these three, for sha256sum -c\n"
	"  export.sha256.sig  its signature, Ed25519, with the key export.key in the state directory, which is\n"
	"                     made by the first export\n"
	"\n"
	"      --out DIR      where to; made if it is missing [wormfs-export-TIME, in the working directory]\n"
	"      --json         the result as one JSON object: out, files, bytes, without_digest, key\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"Examples:\n"
	"  wormctl export --out /mnt/evidence/2026-11 /srv/share\n"
	"  openssl pkeyutl -verify -pubin -inkey export.pub -rawin -in export.sha256 -sigfile export.sha256.sig\n"
	"  cd /srv/share && sha256sum --quiet -c /mnt/evidence/2026-11/SHA256SUMS\n"
	"\n"
	"Exit codes: 0 done, 1 done, but for some files there is no digest (they are named), 2 could not.\n",
	.run = run_export,
};
