/* The page of `wormctl report --html`: from the same object that --json prints. */
#ifndef WORMFS_WORMCTL_REPORT_H
#define WORMFS_WORMCTL_REPORT_H

#include <jansson.h>
#include <stdio.h>

/* One self-contained page: no script, no address that a browser would fetch. Errors stay in `out`. */
void report_write_html(FILE *out, const json_t *report);

/* "1.5 GiB" */
#define REPORT_BYTES_TEXT 24
void report_format_bytes(double bytes, char text[REPORT_BYTES_TEXT]);

#endif
