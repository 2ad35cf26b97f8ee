/* The files of lockstore/wormctl/web/, within the binary. */
#ifndef WORMFS_WORMCTL_SERVE_PAGE_H
#define WORMFS_WORMCTL_SERVE_PAGE_H

extern const unsigned char serve_page[], serve_page_end[];	/* index.html */
extern const unsigned char serve_script[], serve_script_end[];	/* app.js */
extern const unsigned char serve_style[], serve_style_end[];	/* style.css */

#endif
