/* Questions to a person at a terminal. */
#ifndef WORMFS_WORMCTL_PROMPT_H
#define WORMFS_WORMCTL_PROMPT_H

#include <stdbool.h>
#include <stddef.h>

#define PROMPT_MAX_BYTES 8192

struct prompt {
	int fd;		/* of the terminal */
};

/* -ENOTTY, -ENXIO: there is nobody to ask. */
int prompt_open(struct prompt *prompt);
void prompt_close(struct prompt *prompt);

/* An answer without its end of line; `otherwise` ("" or NULL: nothing) when it is empty. The caller frees *ret_answer.
 * -ECANCELED: the terminal was hung up, or end of file. -E2BIG. */
int prompt_ask(struct prompt *prompt, const char *question, const char *otherwise, char **ret_answer);
/* Nothing that is typed is shown. A signal leaves the terminal as it was before it is delivered. The caller wipes and frees. */
int prompt_secret(struct prompt *prompt, const char *question, char **ret_secret);

#endif
