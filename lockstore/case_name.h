/* Names of legal holds. Pure; any thread. */
#ifndef WORMFS_CASE_NAME_H
#define WORMFS_CASE_NAME_H

#include <stdbool.h>

#define CASE_NAME_MAX_BYTES 128

/* 1 to CASE_NAME_MAX_BYTES bytes of UTF-8, no '/' and no control character. */
bool case_name_is_valid(const char *name);

#endif
