/* How long a file looks for its rule among N (10,000). Three sets of rules; each look is timed alone, and what is
 * printed is the median and the 99th percentile in ns, as JSON. Exit 1: a median is over the goal of 10 us. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/policy.h"

#define LOOKS 100000
#define GOAL_NS 10000

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* A line of what administrators write in numbers: a tree a project, a user a rule, a suffix below one tree. */
static void write_rule(FILE *f, const char *set, unsigned i)
{
	if (strcmp(set, "paths") == 0)
		fprintf(f, "[r%u]\npath = /projects/group%u/p%u/**\nnone.suffix = tmp\nretention = 7y\n", i, i % 100, i);
	else if (strcmp(set, "owners") == 0)
		fprintf(f, "[r%u]\npath = /home\nowner = %u\nsize = >0\nretention = 7y\n", i, i);
	else
		fprintf(f, "[r%u]\npath = /mixed/**\n%s = x%u%s\nretention = 7y\n", i, i % 2 ? "suffix" : "name", i, i % 2 ? "" : "*.dat");
}

static void name_file(const char *set, unsigned i, unsigned n, char *path, size_t size, struct policy_file *file)
{
	if (strcmp(set, "paths") == 0)
		snprintf(path, size, "projects/group%u/p%u/2026/11/report-%u.pdf", i % 100, i % (n + n / 10), i);
	else if (strcmp(set, "owners") == 0)
		snprintf(path, size, "home/u%u/Documents/letter.odt", i);
	else
		snprintf(path, size, "mixed/a/b/c/file-%u.x%u", i, (i % n) | 1);
	*file = (struct policy_file){ .path = path, .has_size = true, .size_bytes = 4096, .uid = i % (n + n / 10), .gid = 100 };
}

static int run(const char *set, unsigned n)
{
	static uint32_t took_ns[LOOKS];
	const struct policy_rule *rule;
	struct ini_error error;
	struct policy_file file;
	struct policy *policy;
	char *text, path[200];
	uint64_t start;
	double load_ms;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	for (unsigned i = 0; i < n; i++)
		write_rule(f, set, i);
	fclose(f);
	start = now_ns();
	if (policy_parse(set, text, len, NULL, &policy, &error) < 0) {
		fprintf(stderr, "policybench: %s\n", error.text);
		exit(2);
	}
	load_ms = (now_ns() - start) / 1e6;
	for (unsigned k = 0; k < LOOKS; k++) {
		name_file(set, k * 7919u % (n + n / 10), n, path, sizeof(path), &file);
		start = now_ns();
		if (policy_match(policy, &file, &rule) < 0)
			exit(2);
		took_ns[k] = now_ns() - start;
	}
	qsort(took_ns, LOOKS, sizeof(took_ns[0]), compare);
	printf("{\"set\":\"%s\",\"rules\":%u,\"median_ns\":%u,\"p99_ns\":%u,\"load_ms\":%.1f}\n", set, n, took_ns[LOOKS / 2],
	       took_ns[LOOKS / 100 * 99], load_ms);
	policy_put(policy);
	free(text);
	return took_ns[LOOKS / 2] > GOAL_NS;
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
	int r;

	if (n < 1 || n > POLICY_RULES_MAX) {
		fprintf(stderr, "usage: policybench [RULES]   (1-%d)\n", POLICY_RULES_MAX);
		return 2;
	}
	r = run("paths", n);
	r |= run("owners", n);
	r |= run("mixed", n);
	return r;
}
