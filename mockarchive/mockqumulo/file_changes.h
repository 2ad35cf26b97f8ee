/* Changes of files over the interface, each held to the locks. They reply, and leave x->status at 200 when all went well. */
#ifndef WORMFS_FILE_CHANGES_H
#define WORMFS_FILE_CHANGES_H

#include "mockarchive/mockqumulo/mock.h"

#define FILE_READ_MAX_BYTES (16 << 20)	/* of one reply of GET data */

void file_delete(struct exchange *x, struct found *found);		/* DELETE {ref} */
void file_delete_entry(struct exchange *x, struct found *dir);		/* DELETE {ref}/entries/{name} */
void file_make_entry(struct exchange *x, struct found *dir);		/* POST {ref}/entries/ */
void file_read(struct exchange *x, struct found *found);		/* GET {ref}/data?offset=&length= */
void file_write(struct exchange *x, struct found *found);		/* PUT {ref}/data?offset= */
/* PATCH {ref}/info/attributes: mode, size, modification_time. -EPERM: refused; `found` is brought up to date. */
int file_change_attributes(struct exchange *x, struct found *found);

#endif
