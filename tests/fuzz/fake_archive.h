/* archive.h without a mount. */
#ifndef WORMFS_TESTS_FAKE_ARCHIVE_H
#define WORMFS_TESTS_FAKE_ARCHIVE_H

#include "mockarchive/archive.h"

struct archive *fake_archive_open(void);
void fake_archive_close(struct archive *archive);

#endif
