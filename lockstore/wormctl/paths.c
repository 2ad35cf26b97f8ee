/* Owns the walk. Descriptors lead it, not names: a directory that is exchanged for a symbolic link while
 * we walk leads nowhere. One descriptor a level is open; the tree may be as deep as RLIMIT_NOFILE allows. */
#include "lockstore/wormctl/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct run {
	struct shares *shares;
	const struct path_options *options;
	target_fn fn;
	void *arg;
	struct place *place;	/* of the named path; in a tree its strings grow and shrink */
};

struct level {
	DIR *dir;
	size_t shown_len, path_len, real_len;	/* of the strings without this directory's entries */
};

/* A string that grows at the end and is cut back. */
struct name {
	char *text;
	size_t len, size;
};

static int name_set(struct name *n, const char *text)
{
	size_t len = strlen(text), size = n->size ? n->size : 256;

	while (size <= len)
		size *= 2;
	if (size != n->size) {
		char *grown = realloc(n->text, size);

		if (!grown)
			return -ENOMEM;
		n->text = grown;
		n->size = size;
	}
	memcpy(n->text, text, len + 1);
	n->len = len;
	return 0;
}

/* Appends a component. */
static int name_push(struct name *n, const char *component)
{
	size_t len = strlen(component), need = n->len + len + 2;

	if (need > n->size) {
		char *grown = realloc(n->text, 2 * need);

		if (!grown)
			return -ENOMEM;
		n->text = grown;
		n->size = 2 * need;
	}
	if (n->len && n->text[n->len - 1] != '/')
		n->text[n->len++] = '/';
	memcpy(n->text + n->len, component, len + 1);
	n->len += len;
	return 0;
}

static void name_cut(struct name *n, size_t len)
{
	n->len = len;
	n->text[len] = '\0';
}

/* The three names of where the walk is. */
struct walk {
	struct run *run;
	dev_t dev;
	struct name shown, path, real;
	struct level *levels;
	size_t depth;
};

static int report(struct walk *w, int error, const char *what)
{
	struct failure f;

	fail(&f, error, "cannot %s %s: %s%s", what, quoted(w->shown.text), strerror(-error),
	     error == -EMFILE ? "; the tree is too deep, raise: ulimit -n" : "");
	return w->run->fn(w->run->arg, w->shown.text, NULL, &f);
}

static int push_level(struct walk *w, int fd)
{
	struct level *grown = reallocarray(w->levels, w->depth + 1, sizeof(*grown));
	DIR *dir = grown ? fdopendir(fd) : NULL;

	if (grown)
		w->levels = grown;
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	w->levels[w->depth++] = (struct level){ dir, w->shown.len, w->path.len, w->real.len };
	return 0;
}

static void pop_level(struct walk *w)
{
	(void)closedir(w->levels[--w->depth].dir);	/* read only */
}

static int visit_file(struct walk *w, int fd, const struct stat *st)
{
	struct place place = { .share = w->run->place->share, .real = w->real.text, .path = w->path.text };
	struct target target = { .shown = w->shown.text, .fd = fd, .st = *st, .place = &place, .in_tree = true };

	return w->run->fn(w->run->arg, w->shown.text, &target, NULL);
}

/* The entry of the current level whose names are set. */
static int visit(struct walk *w, int dir_fd, const struct dirent *d)
{
	struct stat st;
	int fd, r;

	if (d->d_type != DT_DIR && d->d_type != DT_REG && d->d_type != DT_UNKNOWN)
		return 0;
	fd = openat(dir_fd, d->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r == -ENOENT ? 0 : report(w, r, "reach");	/* gone since it was listed */
	}
	if (S_ISREG(st.st_mode)) {
		r = visit_file(w, fd, &st);
	} else if (S_ISDIR(st.st_mode) && st.st_dev == w->dev) {
		int open_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (open_fd < 0)
			r = report(w, -errno, "read directory");
		else if (push_level(w, open_fd) < 0)
			r = report(w, -ENOMEM, "read directory");
		else
			r = 0;
	} else {
		r = 0;
	}
	close(fd);
	return r;
}

static int walk_levels(struct walk *w)
{
	int r = 0;

	while (w->depth > 0 && r == 0) {
		struct level *level = &w->levels[w->depth - 1];
		struct dirent *d;

		name_cut(&w->shown, level->shown_len);
		name_cut(&w->path, level->path_len);
		name_cut(&w->real, level->real_len);
		errno = 0;
		d = readdir(level->dir);
		if (!d) {
			if (errno)
				r = report(w, -errno, "read directory");
			pop_level(w);
			continue;
		}
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (name_push(&w->shown, d->d_name) < 0 || name_push(&w->path, d->d_name) < 0 ||
		    name_push(&w->real, d->d_name) < 0)
			r = report(w, -ENOMEM, "reach");
		else
			r = visit(w, dirfd(level->dir), d);
	}
	return r;
}

static int walk_tree(struct run *run, const struct target *top)
{
	struct walk w = { .run = run, .dev = top->st.st_dev };
	struct rlimit limit;
	int fd, r;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);	/* less deep then */
	}
	if (name_set(&w.shown, top->shown) < 0 || name_set(&w.path, top->place->path) < 0 ||
	    name_set(&w.real, top->place->real) < 0) {
		r = -ENOMEM;
		goto out;
	}
	fd = openat(top->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		r = report(&w, -errno, "read directory");
		goto out;
	}
	r = push_level(&w, fd);
	if (r == 0)
		r = walk_levels(&w);
out:
	while (w.depth > 0)
		pop_level(&w);
	free(w.levels);
	free(w.shown.text);
	free(w.path.text);
	free(w.real.text);
	return r;
}

static int visit_named(struct run *run, const char *shown)
{
	struct target target = { .shown = shown, .fd = -1 };
	struct place place = { 0 };
	struct failure f;
	int r;

	r = shares_find(run->shares, shown, false, &place, &f);
	if (r < 0)
		return run->fn(run->arg, shown, NULL, &f);
	target.fd = open(place.real, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target.fd < 0 || fstat(target.fd, &target.st) < 0) {
		fail(&f, -errno, "cannot reach %s: %s", quoted(shown), strerror(errno));
		r = run->fn(run->arg, shown, NULL, &f);
		goto out;
	}
	target.place = run->place = &place;
	if (run->options->recursive && S_ISDIR(target.st.st_mode))
		r = walk_tree(run, &target);
	else
		r = run->fn(run->arg, shown, &target, NULL);
out:
	if (target.fd >= 0)
		close(target.fd);
	place_fini(&place);
	return r;
}

static int visit_list(struct run *run, struct failure *f)
{
	const char *name = run->options->files_from;
	bool is_stdin = strcmp(name, "-") == 0;
	int end = run->options->nul ? '\0' : '\n', r = 0;
	FILE *in = is_stdin ? stdin : fopen(name, "re");
	size_t size = 0;
	char *line = NULL;
	ssize_t len;

	if (!in)
		return fail(f, -errno, "cannot read the list %s: %s", quoted(name), strerror(errno));
	while (r == 0 && (len = getdelim(&line, &size, end, in)) > 0) {
		struct failure bad;

		if (line[len - 1] == end)
			line[--len] = '\0';
		if (!len)
			continue;
		if (strlen(line) == (size_t)len) {
			r = visit_named(run, line);
			continue;
		}
		fail(&bad, -EINVAL, "a name in the list %s has a NUL in it: is -0 missing?", quoted(name));
		r = run->fn(run->arg, line, NULL, &bad);
	}
	if (r == 0 && ferror(in))
		r = fail(f, -EIO, "cannot read the list %s to its end", quoted(name));
	free(line);
	if (!is_stdin)
		fclose(in);
	return r;
}

int paths_each(struct shares *shares, const struct path_options *options, int argc, char **argv, target_fn fn,
	       void *arg, struct failure *f)
{
	struct run run = { .shares = shares, .options = options, .fn = fn, .arg = arg };
	int r = 0;

	for (int i = 0; i < argc && r == 0; i++)
		r = visit_named(&run, argv[i]);
	if (r == -ENOMEM)
		return fail(f, r, "out of memory");
	if (r == 0 && options->files_from)
		r = visit_list(&run, f);
	return r;
}

bool paths_check(const struct command *command, const struct path_options *options, int argc)
{
	if (options->nul && !options->files_from)
		(void)wrong_usage(command, "-0 says how --files-from separates names: it is missing");
	else if (argc == 0 && !options->files_from)
		(void)wrong_usage(command, "which file? PATH is missing");
	else
		return true;
	return false;
}

bool path_option(struct path_options *options, int option)
{
	switch (option) {
	case 'r': options->recursive = true; return true;
	case '0': options->nul = true; return true;
	case OPT_FILES_FROM: options->files_from = optarg; return true;
	}
	return false;
}
