/* fsbench: runs one phase of file system work in one directory and prints how fast it went, as
 * one line of JSON. bench.py runs it for every contender; it knows nothing of mounts.
 *
 * The operations of a phase are shared out evenly among the threads, which start together. Thread
 * T owns DIR/tT with its files f0, f1, ...; the data phases share the one file DIR/data; the tree
 * of the phases `tree` and `walk` is DIR/sNN, whose top directories the threads share out.
 * Every operation is timed on its own; the rate is taken over the whole phase.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define BLOCK_MAX (16 << 20)
#define SMALL_FILE_BYTES 4096

/* The tree: like the sources of a kernel, most files are a few KiB and half are headers. */
#define TREE_TOPS 16
#define TREE_SUBS 8
#define TREE_FILES 20
#define TREE_FILE_MAX (16 << 10)

struct options {
	const char *dir;
	const char *suffix;	/* of the small files, and of the file of the data phases */
	unsigned threads;
	uint64_t ops;		/* of all threads together, in one pass */
	unsigned passes;	/* timed passes over the same files */
	bool warm;		/* one more pass before them, not timed */
	size_t block;		/* bytes of a call of the data phases */
};

struct worker {
	const struct options *opt;
	const struct phase *phase;
	unsigned id;
	uint64_t ops;		/* this thread's share of a pass */
	uint64_t bytes;		/* moved in the timed passes */
	uint64_t end_ns;
	uint64_t rnd;
	int dir;		/* where this thread works */
	int file;		/* of the data phases */
	char *buf;
	uint32_t *lat_ns;	/* one for each timed operation */
	size_t nlat;
	size_t lat_size;
};

struct phase {
	const char *name;
	/* One pass over this thread's share. Operations are noted with sample(). */
	void (*pass)(struct worker *w);
	enum { OWN_DIR, OWN_NEW_DIR, TOP_DIR, DATA_READ, DATA_WRITE, DATA_NEW } where;
};

static pthread_barrier_t start_line;
/* Written by the main thread before the start line is passed. */
static uint64_t start_ns;
static double start_cpu_s;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	int e = errno;
	va_list ap;

	va_start(ap, fmt);
	fputs("fsbench: ", stderr);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(e));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double cpu_s(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
			(double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

/* Notes one operation that began at `since`; returns now. */
static uint64_t sample(struct worker *w, uint64_t since)
{
	uint64_t now = now_ns();

	if (w->nlat == w->lat_size) {
		w->lat_size = w->lat_size ? 2 * w->lat_size : 4096;
		w->lat_ns = realloc(w->lat_ns, w->lat_size * sizeof(*w->lat_ns));
		if (!w->lat_ns)
			die("samples");
	}
	w->lat_ns[w->nlat++] = now - since > UINT32_MAX ? UINT32_MAX : (uint32_t)(now - since);
	return now;
}

static uint64_t random_of(struct worker *w)	/* xorshift64 */
{
	w->rnd ^= w->rnd << 13;
	w->rnd ^= w->rnd >> 7;
	w->rnd ^= w->rnd << 17;
	return w->rnd;
}

static const char *name_of(char buf[32], char letter, uint64_t i, const char *suffix)
{
	snprintf(buf, 32, "%c%llu%s", letter, (unsigned long long)i, suffix);
	return buf;
}

static void write_file(struct worker *w, int dir, const char *name, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		die("create '%s'", name);
	if (write(fd, w->buf, len) != (ssize_t)len)
		die("write '%s'", name);
	if (close(fd) < 0)
		die("close '%s'", name);
	w->bytes += len;
}

static void read_file(struct worker *w, int dir, const char *name, size_t max)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		die("open '%s'", name);
	n = read(fd, w->buf, max);
	if (n <= 0)
		die("read '%s'", name);
	if (close(fd) < 0)
		die("close '%s'", name);
	w->bytes += (uint64_t)n;
}

static void stat_name(int dir, const char *name, struct stat *st)
{
	if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		die("stat '%s'", name);
}

static void pass_create(struct worker *w)
{
	uint64_t t = now_ns();
	char name[32];

	for (uint64_t i = 0; i < w->ops; i++) {
		write_file(w, w->dir, name_of(name, 'f', i, w->opt->suffix), SMALL_FILE_BYTES);
		t = sample(w, t);
	}
}

static void pass_stat(struct worker *w)
{
	uint64_t t = now_ns();
	struct stat st;
	char name[32];

	for (uint64_t i = 0; i < w->ops; i++) {
		stat_name(w->dir, name_of(name, 'f', i, w->opt->suffix), &st);
		t = sample(w, t);
	}
}

static void pass_read(struct worker *w)
{
	uint64_t t = now_ns();
	char name[32];

	for (uint64_t i = 0; i < w->ops; i++) {
		read_file(w, w->dir, name_of(name, 'f', i, w->opt->suffix), SMALL_FILE_BYTES);
		t = sample(w, t);
	}
}

static void pass_rename(struct worker *w)
{
	char from[32], to[32];
	uint64_t t = now_ns();

	for (uint64_t i = 0; i < w->ops; i++) {
		name_of(from, 'f', i, w->opt->suffix);
		name_of(to, 'g', i, w->opt->suffix);
		if (renameat(w->dir, from, w->dir, to) < 0)
			die("rename '%s'", from);
		t = sample(w, t);
	}
}

static void pass_unlink(struct worker *w)	/* what the phase rename left */
{
	uint64_t t = now_ns();
	char name[32];

	for (uint64_t i = 0; i < w->ops; i++) {
		if (unlinkat(w->dir, name_of(name, 'g', i, w->opt->suffix), 0) < 0)
			die("unlink '%s'", name);
		t = sample(w, t);
	}
}

static void pass_refuse(struct worker *w)	/* files that the phase create has left locked */
{
	uint64_t t = now_ns();
	char name[32];

	for (uint64_t i = 0; i < w->ops; i++) {
		if (openat(w->dir, name_of(name, 'f', i, w->opt->suffix), O_WRONLY | O_CLOEXEC) >= 0 || errno != EPERM)
			die("open '%s' for writing: not refused", name);
		t = sample(w, t);
	}
}

static DIR *open_dir(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		die("open directory '%s'", name);
	return d;
}

static struct dirent *next_entry(DIR *d)
{
	struct dirent *e;

	do {
		errno = 0;
		e = readdir(d);
		if (!e && errno)
			die("readdir");
	} while (e && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")));
	return e;
}

/* `ls -l`: an operation is one entry, with its share of the readdir calls. */
static void pass_list(struct worker *w)
{
	uint64_t t = now_ns(), n = 0;
	DIR *d = open_dir(w->dir, ".");
	struct dirent *e;
	struct stat st;

	for (; (e = next_entry(d)); n++) {
		stat_name(dirfd(d), e->d_name, &st);
		t = sample(w, t);
	}
	closedir(d);
	if (n != w->ops) {
		errno = ENODATA;
		die("list: %llu entries of %llu", (unsigned long long)n, (unsigned long long)w->ops);
	}
}

static void pass_tree(struct worker *w)
{
	uint64_t t = now_ns();
	char name[64];

	for (unsigned top = w->id; top < TREE_TOPS; top += w->opt->threads) {
		snprintf(name, sizeof(name), "s%02u", top);
		if (mkdirat(w->dir, name, 0755) < 0)
			die("mkdir '%s'", name);
		for (unsigned sub = 0; sub < TREE_SUBS; sub++) {
			snprintf(name, sizeof(name), "s%02u/d%u", top, sub);
			if (mkdirat(w->dir, name, 0755) < 0)
				die("mkdir '%s'", name);
			for (unsigned i = 0; i < TREE_FILES; i++) {
				size_t len = 512 + (top * 7919 + sub * 104729 + i * 1299709) %
						(TREE_FILE_MAX - 512);

				snprintf(name, sizeof(name), "s%02u/d%u/file_%03u.%c", top, sub, i,
						i % 2 ? 'h' : 'c');
				write_file(w, w->dir, name, len);
				t = sample(w, t);
			}
		}
	}
}

static bool is_header(const char *name)
{
	size_t len = strlen(name);

	return len > 2 && !strcmp(name + len - 2, ".h");
}

static void walk(struct worker *w, int dir, const char *name)
{
	uint64_t t = now_ns();
	DIR *d = open_dir(dir, name);
	struct dirent *e;
	struct stat st;

	while ((e = next_entry(d))) {
		stat_name(dirfd(d), e->d_name, &st);
		if (is_header(e->d_name))
			read_file(w, dirfd(d), e->d_name, TREE_FILE_MAX);
		t = sample(w, t);
		if (S_ISDIR(st.st_mode)) {
			walk(w, dirfd(d), e->d_name);
			t = now_ns();
		}
	}
	closedir(d);
}

/* What a build does first: every entry's stat, every header's bytes. */
static void pass_walk(struct worker *w)
{
	char name[32];

	for (unsigned top = w->id; top < TREE_TOPS; top += w->opt->threads) {
		snprintf(name, sizeof(name), "s%02u", top);
		walk(w, w->dir, name);
	}
}

static void data_call(struct worker *w, bool writing, uint64_t block)
{
	size_t len = w->opt->block;
	off_t pos = (off_t)(block * len);
	ssize_t n = writing ? pwrite(w->file, w->buf, len, pos) : pread(w->file, w->buf, len, pos);

	if (n != (ssize_t)len)
		die("%s at %lld", writing ? "write" : "read", (long long)pos);
	w->bytes += len;
}

static void pass_data(struct worker *w, bool writing, bool random)
{
	uint64_t t = now_ns();

	for (uint64_t i = 0; i < w->ops; i++) {
		uint64_t block = w->ops * w->id + i;

		if (random)
			block = random_of(w) % (w->ops * w->opt->threads);
		data_call(w, writing, block);
		t = sample(w, t);
	}
}

static void pass_seqread(struct worker *w) { pass_data(w, false, false); }
static void pass_seqwrite(struct worker *w) { pass_data(w, true, false); }
static void pass_randread(struct worker *w) { pass_data(w, false, true); }
static void pass_randwrite(struct worker *w) { pass_data(w, true, true); }

static const struct phase phases[] = {
	{ "create",    pass_create,    OWN_NEW_DIR },
	{ "stat",      pass_stat,      OWN_DIR },
	{ "read",      pass_read,      OWN_DIR },
	{ "refuse",    pass_refuse,    OWN_DIR },
	{ "list",      pass_list,      OWN_DIR },
	{ "rename",    pass_rename,    OWN_DIR },
	{ "unlink",    pass_unlink,    OWN_DIR },
	{ "tree",      pass_tree,      TOP_DIR },
	{ "walk",      pass_walk,      TOP_DIR },
	{ "seqwrite",  pass_seqwrite,  DATA_NEW },
	{ "seqread",   pass_seqread,   DATA_READ },
	{ "randwrite", pass_randwrite, DATA_WRITE },
	{ "randread",  pass_randread,  DATA_READ },
};

static void open_place(struct worker *w)
{
	static const int data_flags[] = {
		[DATA_READ] = O_RDONLY, [DATA_WRITE] = O_WRONLY, [DATA_NEW] = O_WRONLY | O_CREAT,
	};
	const struct options *opt = w->opt;
	char path[PATH_MAX];

	w->dir = w->file = -1;
	if (w->phase->where >= DATA_READ) {
		snprintf(path, sizeof(path), "%s/data%s", opt->dir, opt->suffix);
		w->file = open(path, data_flags[w->phase->where] | O_CLOEXEC, 0644);
		if (w->file < 0)
			die("open '%s'", path);
		return;
	}
	if (w->phase->where == TOP_DIR)
		snprintf(path, sizeof(path), "%s", opt->dir);
	else
		snprintf(path, sizeof(path), "%s/t%u", opt->dir, w->id);
	if (w->phase->where == OWN_NEW_DIR && mkdir(path, 0755) < 0 && errno != EEXIST)
		die("mkdir '%s'", path);
	w->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->dir < 0)
		die("open '%s'", path);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	w->buf = aligned_alloc(4096, BLOCK_MAX);
	if (!w->buf)
		die("buffer");
	memset(w->buf, 'w', w->opt->block > TREE_FILE_MAX ? w->opt->block : TREE_FILE_MAX);
	open_place(w);
	if (w->opt->warm) {
		w->phase->pass(w);
		w->nlat = 0;
		w->bytes = 0;
	}
	pthread_barrier_wait(&start_line);	/* the main thread takes the time between the two */
	pthread_barrier_wait(&start_line);
	for (unsigned i = 0; i < w->opt->passes; i++)
		w->phase->pass(w);
	w->end_ns = now_ns();
	if (w->file >= 0 && close(w->file) < 0)
		die("close");
	if (w->dir >= 0)
		close(w->dir);
	free(w->buf);
	return NULL;
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const struct options *opt, const struct phase *phase, struct worker *w)
{
	double used_s = cpu_s() - start_cpu_s;
	uint64_t end = 0, bytes = 0;
	size_t n = 0, at = 0;
	uint32_t *all;
	double s;

	for (unsigned i = 0; i < opt->threads; i++) {
		n += w[i].nlat;
		bytes += w[i].bytes;
		end = w[i].end_ns > end ? w[i].end_ns : end;
	}
	all = malloc((n ? n : 1) * sizeof(*all));
	if (!all || !n)
		die("no samples");
	for (unsigned i = 0; i < opt->threads; i++) {
		memcpy(all + at, w[i].lat_ns, w[i].nlat * sizeof(*all));
		at += w[i].nlat;
		free(w[i].lat_ns);
	}
	qsort(all, n, sizeof(*all), cmp_u32);
	s = (double)(end - start_ns) / 1e9;
	printf("{\"phase\": \"%s\", \"threads\": %u, \"ops\": %zu, \"bytes\": %llu, \"seconds\": %.6f, "
			"\"ops_s\": %.1f, \"mb_s\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"cpu_us\": %.2f}\n",
			phase->name, opt->threads, n, (unsigned long long)bytes, s,
			(double)n / s, (double)bytes / s / 1e6,
			all[n / 2] / 1e3, all[n * 99 / 100] / 1e3, used_s * 1e6 / (double)n);
	free(all);
}

static void __attribute__((noreturn)) usage(void)
{
	fputs("usage: fsbench PHASE DIR [-n OPS] [-t THREADS] [-p PASSES] [-b BLOCK] [-x SUFFIX] [-w]\n"
			"phases:", stderr);
	for (size_t i = 0; i < sizeof(phases) / sizeof(*phases); i++)
		fprintf(stderr, " %s", phases[i].name);
	fputc('\n', stderr);
	exit(2);
}

static uint64_t number(const char *s, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long v = strtoull(s, &end, 10);

	if (end == s || *end || v < min || v > max) {
		fprintf(stderr, "fsbench: '%s' is not a number from %llu to %llu\n", s,
				(unsigned long long)min, (unsigned long long)max);
		exit(2);
	}
	return v;
}

int main(int argc, char **argv)
{
	struct options opt = { .suffix = "", .threads = 1, .ops = 1000, .passes = 1, .block = 4096 };
	struct worker workers[THREADS_MAX] = { 0 };
	const struct phase *phase = NULL;
	pthread_t tid[THREADS_MAX];
	int c;

	if (argc < 3)
		usage();
	for (size_t i = 0; i < sizeof(phases) / sizeof(*phases); i++)
		if (!strcmp(argv[1], phases[i].name))
			phase = &phases[i];
	if (!phase)
		usage();
	opt.dir = argv[2];
	optind = 3;
	while ((c = getopt(argc, argv, "n:t:p:b:x:w")) != -1) {
		switch (c) {
		case 'n': opt.ops = number(optarg, 1, 100000000); break;
		case 't': opt.threads = (unsigned)number(optarg, 1, THREADS_MAX); break;
		case 'p': opt.passes = (unsigned)number(optarg, 1, 1000000); break;
		case 'b': opt.block = number(optarg, 1, BLOCK_MAX); break;
		case 'x': opt.suffix = optarg; break;
		case 'w': opt.warm = true; break;
		default: usage();
		}
	}
	if (optind != argc)
		usage();
	pthread_barrier_init(&start_line, NULL, opt.threads + 1);
	for (unsigned i = 0; i < opt.threads; i++) {
		workers[i] = (struct worker){ .opt = &opt, .phase = phase, .id = i,
			.ops = opt.ops / opt.threads, .rnd = 0x9e3779b97f4a7c15u * (i + 1) };
		if (pthread_create(&tid[i], NULL, work, &workers[i]))
			die("thread");
	}
	pthread_barrier_wait(&start_line);
	start_cpu_s = cpu_s();
	start_ns = now_ns();
	pthread_barrier_wait(&start_line);
	for (unsigned i = 0; i < opt.threads; i++)
		pthread_join(tid[i], NULL);
	report(&opt, phase, workers);
	return 0;
}
