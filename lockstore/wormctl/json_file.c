/* Temporary name, fsync, rename, fsync of the directory. */
#include "lockstore/wormctl/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/whole_write.h"

int json_file_write(const char *dir, const char *name, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	int dir_fd = -1, fd = -1, r;
	char temporary[64];

	json_decref(object);
	if (!text)
		return -ENOMEM;
	snprintf(temporary, sizeof(temporary), ".%s.new", name);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir_fd < 0 ? -1 : openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = whole_write(fd, text, strlen(text));
	if (r == 0 && (fsync(fd) < 0 || renameat(dir_fd, temporary, dir_fd, name) < 0 || fsync(dir_fd) < 0))
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, temporary, 0);	/* the next one replaces it */
out:
	if (fd >= 0)
		close(fd);
	if (dir_fd >= 0)
		close(dir_fd);
	free(text);
	return r;
}

int json_file_read(const char *dir, const char *name, json_t **ret_object)
{
	char *path = NULL;
	json_error_t error;
	json_t *object;
	FILE *in;
	int r;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return -ENOMEM;
	in = fopen(path, "re");
	r = in ? 0 : -errno;
	free(path);
	if (!in)
		return r;
	object = json_loadf(in, 0, &error);
	fclose(in);
	if (!json_is_object(object)) {
		json_decref(object);
		return -EBADMSG;
	}
	*ret_object = object;
	return 0;
}
