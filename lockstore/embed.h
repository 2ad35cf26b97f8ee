/* Puts a file into the program, as the bytes between symbol and symbol_end, with a NUL behind them. The path is from the top of the tree,
 * where the compiler runs; the Makefile says that the object depends on the file. */
#ifndef LOCKSTORE_EMBED_H
#define LOCKSTORE_EMBED_H

#define EMBED(symbol, path)						\
	__asm__(".section .rodata\n"					\
		".global " #symbol "\n" #symbol ":\n"			\
		".incbin \"" path "\"\n"				\
		".global " #symbol "_end\n" #symbol "_end:\n"		\
		".byte 0\n"						\
		".previous\n")

#endif
