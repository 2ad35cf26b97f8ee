/* Nothing is made before it is sure that the share can be served; the order below is what keeps a
 * failed start from leaving anything behind. */
#include "fs/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/timekeeper.h"
#include "lockstore/audit.h"
#include "lockstore/events/event_ring.h"
#include "lockstore/own_clock.h"
#include "lockstore/reindex.h"

#define PREDECESSOR_MS 3000
#define STATE_LOCK "lock"
#define STATE_KEY "key"

enum { MADE_DIR = 1, MADE_LOCK = 2, MADE_LEDGER = 4, MADE_KEY = 8, MADE_JOURNAL = 16, MADE_ID = 32, MADE_AUDIT = STATE_MADE_AUDIT,
       MADE_CLOCK = STATE_MADE_CLOCK, MADE_EVENTS = STATE_MADE_EVENTS };

void complain(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", log_program);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ---- who the share is ---- */

static int random_uuid(char *buf, size_t len_bytes)
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -EIO;
	b[6] = (b[6] & 0x0f) | 0x40;	/* RFC 9562: version 4, variant 10 */
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(buf, len_bytes, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
		 b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
	return 0;
}

/* Where there are no xattrs the path has to do. FNV-1a, 64 bits. */
static void id_of_path(const char *path, char *buf, size_t len_bytes)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (; *path; path++)
		hash = (hash ^ (unsigned char)*path) * 0x100000001b3ULL;
	snprintf(buf, len_bytes, "path-%016llx", (unsigned long long)hash);
}

static bool is_id(const char *id)
{
	return *id && strspn(id, "0123456789abcdef-path") == strlen(id);
}

/* *ret_new: the id has still to be written to the share. */
static int find_id(struct wormfs *fs, bool *ret_new)
{
	enum lower_namespace other = fs->ns == LOWER_TRUSTED ? LOWER_USER : LOWER_TRUSTED;
	ssize_t n;

	*ret_new = false;
	if (!fs->lower.xattr) {
		id_of_path(fs->share, fs->share_id, sizeof(fs->share_id));
		return 0;
	}
	n = lower_getxattr(fs->root_fd, lower_xattr_share(fs->ns), fs->share_id, sizeof(fs->share_id) - 1);
	if (n >= 0) {
		fs->share_id[n] = '\0';
		if (is_id(fs->share_id))
			return 0;
		complain("the id of '%s' (xattr %s) is not one of ours: remove it with setfattr -x if nothing there is locked",
			 fs->share, lower_xattr_share(fs->ns));
		return -EBADMSG;
	}
	if (n != -ENODATA) {
		complain("cannot read the id of '%s' (xattr %s): %s", fs->share, lower_xattr_share(fs->ns), strerror(-n));
		return n;
	}
	if (fs->opt.xattr_ns < 0 && lower_getxattr(fs->root_fd, lower_xattr_share(other), NULL, 0) >= 0) {
		complain("'%s' was locked by a daemon %s root: mount it as that user, or name its records with -o xattr=%s",
			 fs->share, other == LOWER_USER ? "without" : "with", other == LOWER_USER ? "user" : "trusted");
		return -EPERM;
	}
	*ret_new = true;
	return random_uuid(fs->share_id, sizeof(fs->share_id));
}

/* ---- where its state lives ---- */

static int default_state_dir(struct wormfs *fs, char *buf, size_t len_bytes)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n;

	if (geteuid() == 0)
		n = snprintf(buf, len_bytes, "/var/lib/wormfs/%s", fs->share_id);
	else if (xdg && *xdg == '/')
		n = snprintf(buf, len_bytes, "%s/wormfs/%s", xdg, fs->share_id);
	else if (home && *home == '/')
		n = snprintf(buf, len_bytes, "%s/.local/state/wormfs/%s", home, fs->share_id);
	else
		n = -1;
	return n < 0 || (size_t)n >= len_bytes ? -ENAMETOOLONG : 0;
}

/* *ret_made: the last of them was not there. */
static int make_directories(const char *path, bool *ret_made)
{
	char copy[PATH_MAX], *p = copy;

	if (strlen(path) >= sizeof(copy))
		return -ENAMETOOLONG;
	strcpy(copy, path);
	while ((p = strchrnul(p + 1, '/'))) {
		bool end = !*p;

		*p = '\0';
		*ret_made = mkdir(copy, end ? 0700 : 0755) == 0;
		if (!*ret_made && errno != EEXIST)
			return -errno;
		if (end)
			return 0;
		*p = '/';
	}
	return 0;
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0' || strcmp(dir, "/") == 0);
}

static int open_state_dir(struct wormfs *fs)
{
	char path[PATH_MAX];
	bool made = false;
	int r = 0;

	if (fs->opt.state)
		snprintf(path, sizeof(path), "%s", fs->opt.state);
	else
		r = default_state_dir(fs, path, sizeof(path));
	if (r == 0)
		r = make_directories(path, &made);
	fs->state_made |= made ? MADE_DIR : 0;
	if (r == 0) {
		fs->state_dir = realpath(path, NULL);
		r = fs->state_dir ? 0 : -errno;
	}
	if (r < 0) {
		complain("cannot make the state directory '%s': %s; name another one with -o state=DIR", path, strerror(-r));
		return r;
	}
	if (is_below(fs->state_dir, fs->share)) {
		complain("the state directory '%s' lies in the share: name another one with -o state=DIR", fs->state_dir);
		return -EINVAL;
	}
	return 0;
}

/* ---- one daemon a share ---- */

/* umount(8) returns before the daemon of the old mount has ended: its successor waits for that. */
static int lock_file(int fd)
{
	for (int waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += 50) {
		if (errno != EWOULDBLOCK || waited_ms >= PREDECESSOR_MS)
			return -errno;
		usleep(50000);
	}
	return 0;
}

static int lock_share(struct wormfs *fs)
{
	char path[PATH_MAX];

	/* Gateways of one distributed share have one state directory each; all others also meet here. */
	if (fs->opt.shared != 1 && lock_file(fs->root_fd) == -EWOULDBLOCK) {
		complain("another wormfs serves '%s' already: unmount that one first", fs->share);
		return -EBUSY;
	}
	snprintf(path, sizeof(path), "%s/" STATE_LOCK, fs->state_dir);
	fs->state_made |= access(path, F_OK) < 0 ? MADE_LOCK : 0;
	fs->state_lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fs->state_lock_fd < 0) {
		int r = -errno;

		complain("cannot write to the state directory '%s': %s", fs->state_dir, strerror(-r));
		return r;
	}
	if (lock_file(fs->state_lock_fd) < 0) {
		complain("another wormfs uses the state directory '%s': unmount that share first, or give this one its own with -o state=DIR",
			 fs->state_dir);
		return -EBUSY;
	}
	return 0;
}

/* ---- ledger, key, journal ---- */

/* Without xattrs nothing but the ledger knows what is locked: a new one would unlock all. */
static const char *ledger_remedy(struct wormfs *fs)
{
	return fs->lower.xattr ? "the locks are on the files: move it away, mount, and 'wormctl reindex' builds a new one"
			       : "the share has no xattrs, its locks are nowhere else: restore it from a backup, a new one would unlock the files";
}

static int open_ledger(struct wormfs *fs, bool *ret_made)
{
	int r;

	*ret_made = false;
	r = ledger_open(fs->state_dir, 0, fs->share_id, &fs->ledger);
	if (r == -ENOENT) {
		*ret_made = true;
		r = ledger_open(fs->state_dir, LEDGER_CREATE, fs->share_id, &fs->ledger);
		fs->state_made |= r == 0 ? MADE_LEDGER : 0;
	}
	if (r == -EXDEV)
		complain("the state directory '%s' belongs to another share: name this one's with -o state=DIR", fs->state_dir);
	else if (r < 0)
		complain("cannot open the ledger '%s/" LEDGER_FILE "': %s; %s", fs->state_dir, ledger_error(NULL), ledger_remedy(fs));
	return r;
}

static int open_key(struct wormfs *fs, bool share_is_new)
{
	char path[PATH_MAX];
	int r;

	if (fs->opt.key)
		snprintf(path, sizeof(path), "%s", fs->opt.key);
	else
		snprintf(path, sizeof(path), "%s/" STATE_KEY, fs->state_dir);
	r = record_key_open(path, false, &fs->key);
	if (r == -ENOENT && !fs->opt.key) {
		if (!share_is_new)
			log_warning("the key of '%s' was not in '%s': with the new one the records of files locked before cannot be "
				    "verified, they stay locked and are refused with EIO; restore the key from your backup",
				    fs->share, fs->state_dir);
		r = record_key_open(path, true, &fs->key);
		fs->state_made |= r == 0 ? MADE_KEY : 0;
	}
	if (r == -ENOENT)
		complain("there is no key '%s': make one with 'head -c 32 /dev/urandom' and mode 0600, the same for all gateways", path);
	else if (r == -EPERM)
		complain("the key '%s' can be read by others: chmod 600 it", path);
	else if (r == -EBADMSG)
		complain("the key '%s' is not 32 bytes long: restore it from your backup", path);
	else if (r < 0)
		complain("cannot open the key '%s': %s", path, strerror(-r));
	return r;
}

static char *read_boot_id(char *buf, size_t len_bytes)
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	*buf = '\0';
	if (f && fgets(buf, len_bytes, f))
		buf[strcspn(buf, "\n")] = '\0';
	if (f)
		fclose(f);
	return buf;
}

/* After a lost database, or a machine that went down while the share was mounted, rows may be missing. */
static int note_start(struct wormfs *fs, bool ledger_is_new, bool share_is_new)
{
	char boot_id[64], now[32], *value = NULL;
	bool missing = fs->lower.xattr && ledger_is_new && !share_is_new;
	int r;

	read_boot_id(boot_id, sizeof(boot_id));
	if (ledger_meta_get(fs->ledger, "mounted", &value) == 0) {
		missing |= fs->lower.xattr && *value && strcmp(value, boot_id) != 0;
		free(value);
	}
	if (ledger_meta_get(fs->ledger, "mounted_at", &value) == 0) {
		fs->last_mounted_s = strtoll(value, NULL, 10);
		free(value);
	}
	snprintf(now, sizeof(now), "%lld", (long long)time(NULL));
	r = ledger_meta_set(fs->ledger, "mounted_at", now);
	if (r == 0 && missing)
		r = ledger_meta_set(fs->ledger, "needs_reindex", "1");
	if (r == 0)
		r = ledger_meta_set(fs->ledger, "mounted", boot_id);
	if (r < 0)
		complain("cannot write to the ledger in '%s': %s", fs->state_dir, ledger_error(fs->ledger));
	return r;
}

static int load_flags(struct wormfs *fs)
{
	struct ledger_filter all = { 0 };
	char *value;
	uint64_t n;
	int r;

	r = ledger_count(fs->ledger, &all, &n);
	if (r < 0) {
		complain("cannot read the ledger in '%s': %s; %s", fs->state_dir, ledger_error(fs->ledger), ledger_remedy(fs));
		return r;
	}
	atomic_store(&fs->ledger_rows, n > 0);
	if (ledger_meta_get(fs->ledger, "unpinned_locks", &value) == 0) {
		atomic_store(&fs->unpinned_locks, *value == '1');
		free(value);
	}
	return 0;
}

static int open_journal(struct wormfs *fs)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" JOURNAL_FILE, fs->state_dir);
	fs->state_made |= access(path, F_OK) < 0 ? MADE_JOURNAL : 0;
	return journal_open(fs->state_dir, &fs->journal);
}

void state_undo(struct wormfs *fs)
{
	static const struct {
		unsigned what;
		const char *name;
	} files[] = {
		{ MADE_LEDGER, LEDGER_FILE }, { MADE_LEDGER, LEDGER_FILE "-wal" }, { MADE_LEDGER, LEDGER_FILE "-shm" },
		{ MADE_KEY, STATE_KEY }, { MADE_JOURNAL, JOURNAL_FILE }, { MADE_LOCK, STATE_LOCK },
		{ MADE_AUDIT, AUDIT_FILE }, { MADE_CLOCK, OWN_CLOCK_FILE }, { MADE_EVENTS, EVENT_RING_FILE },
	};
	char path[PATH_MAX];

	/* All of it is best effort: what cannot be taken away is found, and used, by the next start. */
	if (fs->state_made & MADE_ID)
		(void)lower_removexattr(fs->root_fd, lower_xattr_share(fs->ns));
	for (size_t i = 0; fs->state_dir && i < sizeof(files) / sizeof(files[0]); i++) {
		if (!(fs->state_made & files[i].what))
			continue;
		snprintf(path, sizeof(path), "%s/%s", fs->state_dir, files[i].name);
		(void)unlink(path);
	}
	if (fs->state_dir && fs->state_made & MADE_DIR)
		(void)rmdir(fs->state_dir);
}

int state_open(struct wormfs *fs)
{
	bool share_is_new, ledger_is_new = false;
	int r;

	r = find_id(fs, &share_is_new);
	if (r == 0)
		r = open_state_dir(fs);
	if (r == 0)
		r = lock_share(fs);
	if (r == 0)
		r = open_ledger(fs, &ledger_is_new);
	if (r == 0)
		r = open_key(fs, share_is_new);
	if (r < 0)
		return r;
	r = open_journal(fs);
	if (r < 0) {
		complain("cannot open the journal '%s/" JOURNAL_FILE "': %s", fs->state_dir, strerror(-r));
		return r;
	}
	r = timekeeper_open(fs, share_is_new);
	if (r < 0)
		return r;
	if (share_is_new && fs->lower.xattr) {
		r = lower_setxattr(fs->root_fd, lower_xattr_share(fs->ns), fs->share_id, strlen(fs->share_id), 0);
		if (r < 0 && !(r == -EROFS && fs->opt.ro)) {
			complain("cannot write the id of '%s' (xattr %s): %s", fs->share, lower_xattr_share(fs->ns), strerror(-r));
			return r;
		}
		fs->state_made |= r == 0 ? MADE_ID : 0;
	}
	r = note_start(fs, ledger_is_new, share_is_new);
	return r < 0 ? r : load_flags(fs);
}

void state_close(struct wormfs *fs, bool clean)
{
	if (fs->ledger && clean && ledger_meta_set(fs->ledger, "mounted", "") < 0)
		log_warning("cannot note the clean end in the ledger: %s, the next mount looks for missing rows", ledger_error(fs->ledger));
	journal_close(fs->journal);
	timekeeper_close(fs);
	record_key_close(fs->key);
	ledger_close(fs->ledger);
	if (fs->state_lock_fd > 0)
		close(fs->state_lock_fd);
}

bool state_needs_reindex(struct wormfs *fs)
{
	struct committer_status status;
	bool needed = false;
	char *value;

	if (ledger_meta_get(fs->ledger, "needs_reindex", &value) == 0) {
		needed = *value == '1';
		free(value);
	}
	committer_status(fs->committer, &status);
	return needed || status.dropped > 0;
}

static void log_problem(void *arg, const char *path, const char *what)
{
	log_warning("reindex: '%s': %s", path, what);
}

void state_explain_damage(struct wormfs *fs, char text[STATE_DAMAGE_BYTES])
{
	snprintf(text, STATE_DAMAGE_BYTES, "the ledger '%s/" LEDGER_FILE "' is damaged: unmount; %s", fs->state_dir, ledger_remedy(fs));
}

int state_reindex(struct wormfs *fs, int (*progress)(void *arg, const struct reindex_stats *so_far), void *arg,
		  struct reindex_stats *ret_stats)
{
	static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
	struct committer_status before;
	char text[STATE_DAMAGE_BYTES];
	bool damaged;
	int r;

	pthread_mutex_lock(&one_at_a_time);
	committer_status(fs->committer, &before);
	r = reindex(fs->ledger, fs->key, fs->root_fd, fs->ns, log_problem, progress, arg, ret_stats);
	damaged = r != -ECANCELED && ledger_check(fs->ledger) == -EIO;	/* what it had not to touch may be, too */
	atomic_store(&fs->ledger_damaged, damaged);
	if (damaged) {
		r = -EIO;
		state_explain_damage(fs, text);
		log_error("%s", text);
	}
	if (r == 0) {
		if (ret_stats->locked > 0)
			atomic_store(&fs->ledger_rows, true);
		committer_forget_dropped(fs->committer, before.dropped);
		r = ledger_meta_set(fs->ledger, "needs_reindex", "");
		if (r == 0 && ret_stats->errors == 0) {
			r = ledger_meta_set(fs->ledger, "unpinned_locks", "");
			if (r == 0)
				atomic_store(&fs->unpinned_locks, false);
		}
	}
	pthread_mutex_unlock(&one_at_a_time);
	return r;
}
