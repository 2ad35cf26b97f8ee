/* One walk for show, export and verify; the end alone for the writer. */
#include "lockstore/audit_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/audit.h"

#define NUMBER_MAX 999999999u

/* ---- which files ---- */

static int compare(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

/* N of every AUDIT_FILE.N, in order. The caller frees *ret_numbers. */
static int find_numbers(int dir_fd, unsigned **ret_numbers, size_t *ret_n)
{
	unsigned *numbers = NULL, *more;
	struct dirent *entry;
	size_t n = 0;
	DIR *dir;
	int fd;

	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		const char *text = entry->d_name + strlen(AUDIT_FILE ".");
		unsigned long number;
		char *end;

		if (strncmp(entry->d_name, AUDIT_FILE ".", strlen(AUDIT_FILE ".")) != 0 || *text < '1' || *text > '9')
			continue;
		number = strtoul(text, &end, 10);
		if (*end || number > NUMBER_MAX)
			continue;
		more = realloc(numbers, (n + 1) * sizeof(*numbers));
		if (!more) {
			free(numbers);
			closedir(dir);
			return -ENOMEM;
		}
		numbers = more;
		numbers[n++] = number;
	}
	closedir(dir);
	if (n)
		qsort(numbers, n, sizeof(*numbers), compare);
	*ret_numbers = numbers;
	*ret_n = n;
	return 0;
}

static void name_of(unsigned number, char *buf, size_t size)
{
	if (number)
		snprintf(buf, size, AUDIT_FILE ".%u", number);
	else
		snprintf(buf, size, "%s", AUDIT_FILE);
}

/* ---- the end ---- */

/* The last whole line of a file, from its end backwards. *ret_line is the caller's; NULL: there is none. */
static int read_last_line(int fd, uint64_t *ret_whole_bytes, char **ret_line, size_t *ret_len)
{
	size_t window = 65536, got;
	struct stat st;
	char *bytes, *last, *start;
	ssize_t n;

	*ret_line = NULL;
	*ret_whole_bytes = 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	for (;; window *= 4) {
		got = (uint64_t)st.st_size < window ? (size_t)st.st_size : window;
		bytes = malloc(got + 1);
		if (!bytes)
			return -ENOMEM;
		n = pread(fd, bytes, got, st.st_size - got);
		if (n != (ssize_t)got) {
			free(bytes);
			return n < 0 ? -errno : -EIO;
		}
		last = memrchr(bytes, '\n', got);
		start = last ? memrchr(bytes, '\n', last - bytes) : NULL;
		if ((last && start) || got == (uint64_t)st.st_size)
			break;
		free(bytes);
	}
	if (last) {
		start = start ? start + 1 : bytes;
		*ret_len = last - start;
		*ret_line = strndup(start, *ret_len);
		*ret_whole_bytes = st.st_size - got + (last - bytes) + 1;
	}
	free(bytes);
	return last && !*ret_line ? -ENOMEM : 0;
}

static int end_of(int dir_fd, unsigned number, struct audit_end *end, bool *ret_found)
{
	char name[sizeof(AUDIT_FILE) + 16], *line;
	size_t len = 0;
	int fd, r;

	*ret_found = false;
	name_of(number, name, sizeof(name));
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = read_last_line(fd, &end->whole_bytes, &line, &len);
	close(fd);
	if (r < 0 || !line)
		return r;
	*ret_found = true;
	r = audit_line_check(line, len, &end->link);
	free(line);
	end->damaged = r < 0;
	return r == -EBADMSG || r == -EILSEQ ? 0 : r;
}

int audit_files_end(int dir_fd, struct audit_end *ret_end)
{
	struct audit_end end = { .link.hash = AUDIT_NO_HASH }, older = end;
	unsigned *numbers = NULL;
	bool found = false;
	size_t n = 0;
	int r;

	r = find_numbers(dir_fd, &numbers, &n);
	if (r == 0)
		r = end_of(dir_fd, 0, &end, &found);
	/* Just rotated: the chain's end is in the file before. */
	for (size_t i = n; r == 0 && i > 0 && !found; i--) {
		r = end_of(dir_fd, numbers[i - 1], &older, &found);
		end.link = older.link;
		end.damaged = older.damaged;
	}
	end.next_number = n ? numbers[n - 1] + 1 : 1;
	free(numbers);
	if (r == 0)
		*ret_end = end;
	return r;
}

/* ---- every line ---- */

/* Takes fd. */
static int each_of(int fd, const char *name, audit_line_fn fn, void *arg)
{
	struct audit_at at = { .file = name, .line = 1 };
	FILE *f = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int r = 0;

	if (!f) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (n = getline(&line, &size, f)) > 0) {
		bool whole = line[n - 1] == '\n';

		if (whole)
			line[n - 1] = '\0';
		r = fn(arg, &at, line, whole ? n - 1 : n, whole);
		at.line++;
		at.offset_bytes += n;
	}
	if (r == 0 && ferror(f))
		r = -EIO;
	free(line);
	fclose(f);
	return r;
}

static int each_older(int dir_fd, unsigned number, ino_t last_ino, audit_line_fn fn, void *arg)
{
	char name[sizeof(AUDIT_FILE) + 16];
	struct stat st;
	int fd;

	name_of(number, name, sizeof(name));
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_ino == last_ino) {	/* it was the last one when we opened that, and is read as such */
		close(fd);
		return 0;
	}
	return each_of(fd, name, fn, arg);
}

static int each_in_dir(int dir_fd, audit_line_fn fn, void *arg)
{
	unsigned *numbers = NULL;
	struct stat st = { 0 };
	size_t n = 0;
	int last, r;

	/* The last one first: a daemon may rotate it while we read. */
	last = openat(dir_fd, AUDIT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (last < 0 && errno != ENOENT)
		return -errno;
	if (last >= 0)
		(void)fstat(last, &st);
	r = find_numbers(dir_fd, &numbers, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = each_older(dir_fd, numbers[i], st.st_ino, fn, arg);
	free(numbers);
	if (last < 0)
		return r == 0 && n == 0 ? -ENOENT : r;
	if (r == 0)
		return each_of(last, AUDIT_FILE, fn, arg);
	close(last);
	return r;
}

int audit_files_each(const char *where, audit_line_fn fn, void *arg)
{
	struct stat st;
	int fd, r;

	fd = open(where, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
		return each_of(fd, where, fn, arg);
	r = each_in_dir(fd, fn, arg);
	close(fd);
	return r;
}

/* ---- verify ---- */

struct walk {
	audit_finding_fn fn;
	audit_line_fn each;	/* or NULL */
	void *arg;
	struct audit_verified *v;
	uint64_t next_seq;
	char prev[AUDIT_HASH_CHARS + 1];
	bool prev_known;	/* after a damaged line nobody knows what the next one follows */
	bool any_first;		/* it may begin with any line */
	const struct audit_head *heads;
	size_t nheads;
	struct audit_at last;
	char last_file[PATH_MAX];
};

static void report(struct walk *walk, enum audit_finding finding, const struct audit_at *at, uint64_t seq, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

static void report(struct walk *walk, enum audit_finding finding, const struct audit_at *at, uint64_t seq, const char *format, ...)
{
	char sentence[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(sentence, sizeof(sentence), format, ap);
	va_end(ap);
	if (finding != AUDIT_TORN)
		walk->v->findings++;
	if (walk->fn)
		walk->fn(walk->arg, finding, at, seq, sentence);
}

/* Does it stand where it belongs? */
static void check_place(struct walk *walk, const struct audit_at *at, const struct audit_link *link)
{
	if (link->seq > walk->next_seq)
		report(walk, AUDIT_MISSING, at, link->seq, "lines %llu to %llu are missing before it",
		       (unsigned long long)walk->next_seq, (unsigned long long)link->seq - 1);
	else if (link->seq < walk->next_seq)
		report(walk, AUDIT_REORDERED, at, link->seq, "line %llu was expected here", (unsigned long long)walk->next_seq);
	else if (walk->prev_known && strcmp(link->prev, walk->prev) != 0)
		report(walk, AUDIT_UNCHAINED, at, link->seq, "it does not follow the line before it: one of the two was replaced");
}

static int verify_line(void *arg, const struct audit_at *at, const char *line, size_t len_bytes, bool whole)
{
	struct walk *walk = arg;
	struct audit_link link;
	int r;

	snprintf(walk->last_file, sizeof(walk->last_file), "%s", at->file);
	walk->last = *at;
	walk->last.file = walk->last_file;
	if (!whole) {
		walk->v->torn = true;
		report(walk, AUDIT_TORN, at, 0, "%zu bytes are no whole line: a kill or a power cut tore it, or it is being written",
		       len_bytes);
		return 0;
	}
	walk->v->lines++;
	r = audit_line_check(line, len_bytes, &link);
	if (r == -EBADMSG || r == -EILSEQ) {
		if (r == -EBADMSG)
			report(walk, AUDIT_NOT_A_LINE, at, 0, "it is not a line of the audit log");
		else
			report(walk, AUDIT_CHANGED, at, link.seq, "it was changed: its hash is not that of its bytes");
		walk->next_seq++;	/* most likely it was that one; what it says of itself counts for nothing */
		walk->prev_known = false;
		return 0;
	}
	if (r < 0)
		return r;
	if (walk->any_first && walk->v->lines == 1)
		walk->next_seq = link.seq;
	check_place(walk, at, &link);
	for (size_t i = 0; i < walk->nheads; i++)
		if (walk->heads[i].seq == link.seq && strcmp(walk->heads[i].hash, link.hash) != 0)
			report(walk, AUDIT_CUT, at, link.seq, "another line of this number was remembered outside the log");
	if (walk->v->first_seq == 0)
		walk->v->first_seq = link.seq;
	if (link.seq < walk->next_seq)
		return 0;	/* it stands too late, or twice: those after it are counted on */
	walk->next_seq = link.seq + 1;
	walk->prev_known = true;
	walk->v->last_seq = link.seq;
	memcpy(walk->prev, link.hash, sizeof(link.hash));
	memcpy(walk->v->last_hash, link.hash, sizeof(link.hash));
	return walk->each ? walk->each(walk->arg, at, line, len_bytes, whole) : 0;
}

int audit_head_parse(const char *text, struct audit_head *ret_head)
{
	unsigned long long seq;
	char hash[AUDIT_HASH_CHARS + 1];

	if (sscanf(text, "%20llu%*1[: ]%64[0-9a-f]", &seq, hash) != 2 || strlen(hash) != AUDIT_HASH_CHARS || seq == 0)
		return -EINVAL;
	ret_head->seq = seq;
	memcpy(ret_head->hash, hash, sizeof(hash));
	return 0;
}

int audit_files_read(const char *where, uint64_t first_seq, const struct audit_head *heads, size_t nheads, audit_finding_fn fn,
		     audit_line_fn each, void *arg, struct audit_verified *ret_verified)
{
	struct walk walk = { .fn = fn, .each = each, .arg = arg, .v = ret_verified, .next_seq = first_seq ? first_seq : 1, .prev = AUDIT_NO_HASH,
			     .prev_known = first_seq == 1, .any_first = first_seq == 0, .heads = heads, .nheads = nheads };
	uint64_t head_seq = 0;
	int r;

	for (size_t i = 0; i < nheads; i++)
		head_seq = heads[i].seq > head_seq ? heads[i].seq : head_seq;
	memset(ret_verified, 0, sizeof(*ret_verified));
	r = audit_files_each(where, verify_line, &walk);
	if (r == -ENOENT && head_seq) {
		snprintf(walk.last_file, sizeof(walk.last_file), "%s", AUDIT_FILE);
		walk.last.file = walk.last_file;
		r = 0;
	}
	if (r < 0)
		return r;
	/* A damaged last line is counted, and was found already. */
	if (walk.next_seq <= head_seq)
		report(&walk, AUDIT_CUT, &walk.last, ret_verified->last_seq, "lines %llu to %llu are missing at the end",
		       (unsigned long long)walk.next_seq, (unsigned long long)head_seq);
	return 0;
}

int audit_files_verify(const char *where, uint64_t first_seq, const struct audit_head *heads, size_t nheads,
		       audit_finding_fn fn, void *arg, struct audit_verified *ret_verified)
{
	return audit_files_read(where, first_seq, heads, nheads, fn, NULL, arg, ret_verified);
}
