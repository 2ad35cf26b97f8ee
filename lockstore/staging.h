/* Staging names: what programs write under a name of their own before they rename it to the real one
 * (rsync, browsers, editors, office programs). A file with such a name is not locked at close; the
 * rename to any other name locks it. Pure; any thread may ask at the same time. */
#ifndef WORMFS_STAGING_H
#define WORMFS_STAGING_H

#include <stdbool.h>

/* Globs of fnmatch(3) on the last component, ':' between them.
 * rsync; curl, wget and others; WinSCP; Chromium; vim; Microsoft Office; LibreOffice; NFS silly rename. */
#define STAGING_DEFAULT ".*.??????:*.part:*.partial:*.filepart:*.crdownload:.*.sw?:~$*:.~lock.*#:.nfs*"

struct staging;

/* "" = no staging names at all. -EINVAL: an empty glob or one with '/'. */
int staging_open(const char *globs, struct staging **ret_staging);
void staging_close(struct staging *staging);
bool staging_matches(const struct staging *staging, const char *name);

#endif
