/* The daemon's log: stderr in the foreground, syslog (daemon facility) otherwise. Any thread.
 * Lines are "wormfs: LEVEL: text"; error: a promise was not kept; warning: we went on, and the line
 * says so; info: mounted, unmounted; debug (-d): each refusal with its reason. */
#ifndef WORMFS_LOG_H
#define WORMFS_LOG_H

#include <stdbool.h>

void log_init(bool to_syslog, bool debug);
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What lines begin with, "wormfs"; set before any other thread is there. */
extern const char *log_program;
bool log_is_debug(void);

#endif
