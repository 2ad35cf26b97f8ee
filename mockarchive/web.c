/* The assembler puts the files in; the Makefile says that this object depends on them. Paths are from the top of the tree,
 * where the compiler runs. */
#include "mockarchive/web.h"

#define EMBED(symbol, file)						\
	__asm__(".section .rodata\n"					\
		".global " #symbol "\n" #symbol ":\n"			\
		".incbin \"mockarchive/web/" file "\"\n"		\
		".global " #symbol "_end\n" #symbol "_end:\n"		\
		".byte 0\n"						\
		".previous\n")

EMBED(web_page, "index.html");
EMBED(web_script, "app.js");
EMBED(web_style, "style.css");
EMBED(web_openapi, "openapi.json");
