/* mkfiles DIR N BYTES [PER_DIRECTORY]: makes N files fast, f0 to fN-1, PER_DIRECTORY (0: all) to a directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[4096], sub[32] = "", *data;
	long n, bytes, per;

	if (argc < 4)
		return 2;
	n = atol(argv[2]);
	bytes = atol(argv[3]);
	per = argc > 4 ? atol(argv[4]) : 0;
	data = calloc(1, bytes + 1);
	if (!data)
		return 2;
	memset(data, 'x', bytes);
	for (long i = 0; i < n; i++) {
		int fd;

		if (per && i % per == 0) {
			snprintf(sub, sizeof(sub), "/d%ld", i / per);
			snprintf(path, sizeof(path), "%s%s", argv[1], sub);
			if (mkdir(path, 0755) < 0)
				goto fail;
		}
		snprintf(path, sizeof(path), "%s%s/f%ld", argv[1], sub, i);
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0 || (bytes && write(fd, data, bytes) != bytes) || close(fd) < 0)
			goto fail;
	}
	return 0;
fail:
	fprintf(stderr, "mkfiles: %s: %s\n", path, strerror(errno));
	return 1;
}
