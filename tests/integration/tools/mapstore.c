/* mapstore: one process whose descriptors and mappings a test drives, a command a line on stdin, an answer
 * a line on stdout: "ok", "ok TEXT", or the name of an errno. Python cannot: its mmap keeps a descriptor.
 *
 *   open PATH       O_RDWR|O_CREAT          openro PATH   O_RDONLY
 *   write TEXT      at the offset           size N        ftruncate
 *   map MODE BYTES  shared, private or read dup           keep a second descriptor
 *   close, closedup                         store OFFSET TEXT   into the mapping
 *   load OFFSET N   from the mapping        msync, unmap, fsync
 *   fork            a child takes a copy of everything and holds it until `reap`
 *   pwrite OFFSET TEXT    through the dup
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer(int r)
{
	if (r < 0)
		puts(strerrorname_np(errno));
	else
		puts("ok");
}

int main(void)
{
	char line[8192], word[8192], text[8192];
	int fd = -1, dup_fd = -1;
	char *map = MAP_FAILED;
	size_t map_bytes = 0;
	pid_t child = -1;
	long n;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "openro %8191[^\n]", text) == 1) {
			fd = open(text, O_RDONLY | O_CLOEXEC);
			answer(fd);
		} else if (sscanf(line, "open %8191[^\n]", text) == 1) {
			fd = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
			answer(fd);
		} else if (sscanf(line, "write %8191[^\n]", text) == 1) {
			answer(write(fd, text, strlen(text)));
		} else if (sscanf(line, "pwrite %ld %8191[^\n]", &n, text) == 2) {
			answer(pwrite(dup_fd, text, strlen(text), n));
		} else if (sscanf(line, "size %ld", &n) == 1) {
			answer(ftruncate(fd, n));
		} else if (sscanf(line, "map %8191s %ld", word, &n) == 2) {
			int prot = strcmp(word, "read") ? PROT_READ | PROT_WRITE : PROT_READ;

			map_bytes = n;
			map = mmap(NULL, n, prot, strcmp(word, "private") ? MAP_SHARED : MAP_PRIVATE, fd, 0);
			answer(map == MAP_FAILED ? -1 : 0);
		} else if (strcmp(line, "dup") == 0) {
			dup_fd = dup(fd);
			answer(dup_fd);
		} else if (strcmp(line, "close") == 0) {
			answer(close(fd));
			fd = -1;
		} else if (strcmp(line, "closedup") == 0) {
			answer(close(dup_fd));
			dup_fd = -1;
		} else if (strcmp(line, "fsync") == 0) {
			answer(fsync(fd));
		} else if (sscanf(line, "store %ld %8191[^\n]", &n, text) == 2) {
			memcpy(map + n, text, strlen(text));
			answer(0);
		} else if (sscanf(line, "load %ld %8191s", &n, word) == 2) {
			printf("ok %.*s\n", atoi(word), map + n);
		} else if (strcmp(line, "msync") == 0) {
			answer(msync(map, map_bytes, MS_SYNC));
		} else if (strcmp(line, "unmap") == 0) {
			answer(munmap(map, map_bytes));
			map = MAP_FAILED;
		} else if (strcmp(line, "fork") == 0) {
			child = fork();
			if (child == 0) {
				fclose(stdin);
				for (;;)
					pause();
			}
			answer(child);
		} else if (strcmp(line, "reap") == 0) {
			kill(child, SIGKILL);
			answer(waitpid(child, NULL, 0));
			child = -1;
		} else {
			puts("EINVAL");
		}
	}
	if (child > 0)
		kill(child, SIGKILL);
	return 0;
}
