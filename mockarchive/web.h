/* The files of mockarchive/web/, within the binary. */
#ifndef WORMFS_MOCKARCHIVE_WEB_H
#define WORMFS_MOCKARCHIVE_WEB_H

extern const unsigned char web_page[], web_page_end[];		/* index.html */
extern const unsigned char web_script[], web_script_end[];	/* app.js */
extern const unsigned char web_style[], web_style_end[];	/* style.css */
extern const unsigned char web_openapi[], web_openapi_end[];	/* openapi.json */

#endif
