#include "lockstore/whole_write.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

int whole_write(int fd, const void *bytes, size_t len_bytes)
{
	const char *at = bytes;

	while (len_bytes > 0) {
		ssize_t n = write(fd, at, len_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		len_bytes -= (size_t)n;
	}
	return 0;
}
