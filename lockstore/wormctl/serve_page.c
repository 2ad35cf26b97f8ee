/* The assembler puts the files in; the Makefile says that this object depends on them. Paths are from the top of the tree,
 * where the compiler runs. */
#include "lockstore/wormctl/serve_page.h"

#define EMBED(symbol, file)						\
	__asm__(".section .rodata\n"					\
		".global " #symbol "\n" #symbol ":\n"			\
		".incbin \"lockstore/wormctl/web/" file "\"\n"		\
		".global " #symbol "_end\n" #symbol "_end:\n"		\
		".byte 0\n"						\
		".previous\n")

EMBED(serve_page, "index.html");
EMBED(serve_script, "app.js");
EMBED(serve_style, "style.css");
