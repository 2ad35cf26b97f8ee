/* Names below a directory, page by page, and paths of ids. They reply. */
#ifndef WORMFS_FILE_LISTING_H
#define WORMFS_FILE_LISTING_H

#include "mockarchive/mockqumulo/mock.h"

#define RESOLVE_IDS_MAX 10000

void file_list(struct exchange *x, struct found *dir);		/* GET {ref}/entries/?limit=&after= */
void file_resolve(struct exchange *x, bool try_resolve);	/* POST resolve, try-resolve */

#endif
