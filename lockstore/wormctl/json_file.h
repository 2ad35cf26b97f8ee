/* A JSON object kept in a file of the state directory. */
#ifndef WORMFS_WORMCTL_JSON_FILE_H
#define WORMFS_WORMCTL_JSON_FILE_H

#include <jansson.h>

/* Whole or not at all, durable, mode 0600. Takes the reference; NULL: -ENOMEM. */
int json_file_write(const char *dir, const char *name, json_t *object);
/* -ENOENT; -EBADMSG: no JSON object. The caller owns *ret_object. */
int json_file_read(const char *dir, const char *name, json_t **ret_object);

#endif
