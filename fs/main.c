/* wormfs: the command line. */
#include "fs/daemon.h"
#include "fs/wormfs.h"

int main(int argc, char **argv)
{
	static struct wormfs fs;
	int r;

	r = options_parse(argc, argv, &fs.opt);
	if (r != 0) {
		options_fini(&fs.opt);
		return r < 0 ? EXIT_COULD_NOT : 0;
	}
	return daemon_run(&fs);
}
