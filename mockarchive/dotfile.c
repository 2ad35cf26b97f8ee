/* dCache's files of commands, which are in no listing: a look-up of such a name makes a file of one line.
 *
 *   .(get)(F)(locality)  .(get)(F)(checksum)  .(get)(F)(checksums)  .(suri)(F)
 *   .(fset)(F)(pin)(N)[(SECONDS|MINUTES|HOURS|DAYS)]  .(fset)(F)(stage)(N)...  .(fset)(F)(bringonline)(N)...   done by touch(1)
 *
 * Names and meaning: dCache, The Book, "rf-dot-commands". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "mockarchive/ops.h"

#define DOTFILES_MAX 4096	/* that the kernel remembers at a time */
#define TEXT_BYTES 128

struct dotfile {
	fuse_ino_t nodeid;
	uint64_t nlookup;
	char *path;		/* of the file it is about */
	bool command;		/* done when it is touched */
	int64_t pin_ns;
	char text[TEXT_BYTES];
	struct dotfile *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* a leaf: for the list */
static struct dotfile *list;
static unsigned count;
static fuse_ino_t next_nodeid = DOTFILE_FIRST;

static struct dotfile *find_locked(fuse_ino_t nodeid)
{
	struct dotfile *d = list;

	while (d && d->nodeid != nodeid)
		d = d->next;
	return d;
}

static void fill_stat(const struct dotfile *d, struct stat *st)
{
	*st = (struct stat){ .st_ino = d->nodeid, .st_mode = S_IFREG | 0666, .st_nlink = 1, .st_size = strlen(d->text), .st_blksize = 4096,
			     .st_blocks = 1 };
}

/* "(get)(F)(locality)" into its parts; F may hold parentheses, nothing else does. */
static int split(char *name, char *parts[5])
{
	int n = 0;

	while (*name == '(' && n < 5) {
		char *end = strstr(name, ")(");

		parts[n++] = name + 1;
		if (!end) {
			size_t len = strlen(name);

			if (len < 2 || name[len - 1] != ')')
				return -1;
			name[len - 1] = '\0';
			return n;
		}
		*end = '\0';
		name = end + 1;
	}
	return -1;
}

static const char *locality(enum archive_state state, bool on_tape)
{
	if (state == ARCHIVE_LOST || state == ARCHIVE_DAMAGED || state == ARCHIVE_UNAVAILABLE)
		return "UNAVAILABLE";
	if (!archive_state_is_online(state))
		return "NEARLINE";
	return on_tape ? "ONLINE_AND_NEARLINE" : "ONLINE";
}

struct want {
	const char *what;
	char *text;
};

static int fill_text(void *arg, const struct archive_file *file)
{
	struct want *w = arg;

	if (strcmp(w->what, "locality") == 0)
		snprintf(w->text, TEXT_BYTES, "%s\n", locality(file->state, file->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD));
	else if (strncmp(w->what, "checksum", 8) == 0 && file->has_checksum)
		snprintf(w->text, TEXT_BYTES, "ADLER32:%08x\n", file->adler32);
	else if (strcmp(w->what, "suri") == 0 && *file->tape)
		snprintf(w->text, TEXT_BYTES, "mockarchive://%s/%llu\n", file->tape, (unsigned long long)file->id);
	else
		return -ENOENT;
	return 0;
}

static int parse_time(const char *number, const char *unit, int64_t *ret_ns)
{
	static const struct { const char *name; int64_t s; } units[] = { { "SECONDS", 1 }, { "MINUTES", 60 }, { "HOURS", 3600 }, { "DAYS", 86400 } };
	char *end;
	long long n = strtoll(number, &end, 10);

	if (end == number || *end || n < 0 || n > 3153600000)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(unit, units[i].name) == 0) {
			*ret_ns = n * units[i].s < 3153600000 ? n * units[i].s * ARCHIVE_NS : 3153600000 * ARCHIVE_NS;
			return 0;
		}
	return -EINVAL;
}

/* What the name asks for, into d. -ENOENT: it is no such name, or of nothing. */
static int parse(struct archive *a, fuse_ino_t parent, const char *name, struct dotfile *d)
{
	char *copy = strdup(name + 1), *parts[5];
	struct want want = { .text = d->text };
	struct stat st;
	int n, r = -ENOENT;

	if (!copy)
		return -ENOMEM;
	n = split(copy, parts);
	if (n >= 2)
		d->path = call_path(a, parent, parts[1]);
	if (n < 2 || !d->path) {
		free(copy);
		return -ENOENT;
	}
	if (strcmp(parts[0], "get") == 0 && n == 3) {
		want.what = parts[2];
		r = archive_find(a, d->path, fill_text, &want);
	} else if (strcmp(parts[0], "suri") == 0 && n == 2) {
		want.what = "suri";
		r = archive_find(a, d->path, fill_text, &want);
	} else if (strcmp(parts[0], "fset") == 0 && n >= 4 &&
		   (strcmp(parts[2], "pin") == 0 || strcmp(parts[2], "stage") == 0 || strcmp(parts[2], "bringonline") == 0)) {
		d->command = true;
		r = parse_time(parts[3], n == 5 ? parts[4] : "SECONDS", &d->pin_ns);
		if (r == 0)
			r = archive_stat(a, d->path, &st);
	}
	free(copy);
	return r < 0 ? -ENOENT : 0;
}

bool dotfile_lookup(struct archive *a, fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { 0 };
	struct dotfile *d;
	fuse_ino_t nodeid;
	bool wanted;
	int r;

	if (name[0] != '.' || name[1] != '(')
		return false;
	pthread_mutex_lock(&a->lock);
	wanted = a->set.dotfiles;
	pthread_mutex_unlock(&a->lock);
	if (!wanted)
		return false;
	d = calloc(1, sizeof(*d));
	r = d ? parse(a, parent, name, d) : -ENOMEM;
	pthread_mutex_lock(&lock);
	if (r == 0 && count >= DOTFILES_MAX)
		r = -ENFILE;
	if (r == 0) {
		d->nodeid = next_nodeid++;
		d->nlookup = 1;
		d->next = list;
		list = d;
		count++;
		e.ino = d->nodeid;
		e.generation = 1;
		fill_stat(d, &e.attr);
	}
	nodeid = e.ino;
	pthread_mutex_unlock(&lock);
	if (r < 0) {
		if (d)
			free(d->path);
		free(d);
		fuse_reply_err(req, -r);
	} else if (fuse_reply_entry(req, &e) == -ENOENT) {
		dotfile_forget(nodeid, 1);
	}
	return true;
}

void dotfile_forget(fuse_ino_t nodeid, uint64_t nlookup)
{
	struct dotfile **p, *d;

	pthread_mutex_lock(&lock);
	for (p = &list; *p && (*p)->nodeid != nodeid; p = &(*p)->next)
		;
	d = *p;
	if (d && (d->nlookup -= nlookup < d->nlookup ? nlookup : d->nlookup) == 0) {
		*p = d->next;
		count--;
	} else {
		d = NULL;
	}
	pthread_mutex_unlock(&lock);
	if (d) {
		free(d->path);
		free(d);
	}
}

void dotfile_getattr(fuse_req_t req, fuse_ino_t nodeid)
{
	struct dotfile *d;
	struct stat st;

	pthread_mutex_lock(&lock);
	d = find_locked(nodeid);
	if (d)
		fill_stat(d, &st);
	pthread_mutex_unlock(&lock);
	if (d)
		fuse_reply_attr(req, &st, 0);
	else
		fuse_reply_err(req, ESTALE);
}

/* 0 also for one that asks for nothing. */
static int do_command(struct archive *a, fuse_ino_t nodeid)
{
	struct dotfile *d;
	char *path = NULL;
	int64_t pin_ns = 0;
	int r;

	pthread_mutex_lock(&lock);
	d = find_locked(nodeid);
	if (d && d->command) {
		path = strdup(d->path);
		pin_ns = d->pin_ns;
		d->command = false;	/* once: touch(1) opens it and sets its time */
	}
	pthread_mutex_unlock(&lock);
	if (!path)
		return 0;
	r = archive_pin(a, path, pin_ns, NULL);
	free(path);
	return r;
}

void dotfile_setattr(struct archive *a, fuse_req_t req, fuse_ino_t nodeid)
{
	int r = do_command(a, nodeid);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		dotfile_getattr(req, nodeid);
}

void dotfile_open(struct archive *a, fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	int r = (fi->flags & O_ACCMODE) != O_RDONLY ? do_command(a, nodeid) : 0;

	fi->direct_io = 1;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		(void)fuse_reply_open(req, fi);		/* interrupted: nothing was made for it */
}

void dotfile_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset)
{
	char text[TEXT_BYTES] = "";
	struct dotfile *d;
	size_t len;

	pthread_mutex_lock(&lock);
	d = find_locked(nodeid);
	if (d)
		memcpy(text, d->text, sizeof(text));
	pthread_mutex_unlock(&lock);
	len = strlen(text);
	if ((size_t)offset >= len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, text + offset, len - offset < size ? len - offset : size);
}

void dotfile_close_all(void)
{
	while (list) {
		struct dotfile *d = list;

		list = d->next;
		free(d->path);
		free(d);
	}
	count = 0;
}
