/* dirwalk DIR: reads a directory as programs do, with one stream: all of it, then telldir/seekdir to places
 * seen before in an order of its own, then rewinddir. Prints one JSON object. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVERY 97	/* a place is remembered before each 97th name */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
	DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
	char **names = NULL, **sorted;
	long *places = NULL;
	long n = 0, room = 0, duplicates = 0, seek_errors = 0, seeks = 0, again = 0;
	struct dirent *e;

	if (!d)
		return 2;
	for (;;) {
		long place = n % EVERY ? 0 : telldir(d);

		errno = 0;
		e = readdir(d);
		if (!e)
			break;
		if (n == room) {
			room = room ? room * 2 : 4096;
			names = realloc(names, room * sizeof(*names));
			places = realloc(places, room * sizeof(*places));
			if (!names || !places)
				return 2;
		}
		names[n] = strdup(e->d_name);
		places[n++] = place;
	}
	if (errno) {
		perror("readdir");
		return 1;
	}
	for (long i = 0; i * EVERY < n; i++) {
		long k = i * 7919 % ((n + EVERY - 1) / EVERY) * EVERY;

		seekdir(d, places[k]);
		e = readdir(d);
		seeks++;
		if (!e || strcmp(e->d_name, names[k]))
			seek_errors++;
	}
	rewinddir(d);
	while (readdir(d))
		again++;
	sorted = malloc((n + 1) * sizeof(*sorted));
	if (!sorted)
		return 2;
	memcpy(sorted, names, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_name);
	for (long i = 1; i < n; i++)
		duplicates += strcmp(sorted[i - 1], sorted[i]) == 0;
	printf("{\"names\": %ld, \"duplicates\": %ld, \"seeks\": %ld, \"seek_errors\": %ld, \"after_rewind\": %ld}\n",
	       n, duplicates, seeks, seek_errors, again);
	return 0;
}
