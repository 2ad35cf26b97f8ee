/* Paths of the control protocol: what is accepted stays below the share and survives a round trip. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = calloc(1, len + 1), *path, *again, *same;

	memcpy(text, data, len);
	if (control_path_decode(text, &path) == 0) {
		if (path[0] == '/' || strcmp(path, "..") == 0 || strncmp(path, "../", 3) == 0 || strstr(path, "/../"))
			abort();
		if (control_path_encode(path, &again) < 0 || control_path_decode(again, &same) < 0 || strcmp(path, same) != 0)
			abort();
		free(same);
		free(again);
		free(path);
	}
	free(text);
	return 0;
}
