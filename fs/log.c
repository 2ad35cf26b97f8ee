/* One line a message, written with one write so that threads do not mix; control characters in names
 * are escaped here, so that no file name can forge a line. */
#include "fs/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_BYTES 1024

const char *log_program = "wormfs";
static atomic_bool syslog_wanted, debug_wanted;

static void escape(const char *text, char *out, size_t len_bytes)
{
	size_t n = 0;

	for (; *text && n + 5 < len_bytes; text++) {
		unsigned char c = *text;

		if (c >= 0x20 && c != 0x7f)
			out[n++] = c;
		else
			n += snprintf(out + n, len_bytes - n, "\\x%02x", c);
	}
	out[n] = '\0';
}

static void log_line(int priority, const char *level, const char *format, va_list ap)
{
	char text[LINE_BYTES], safe[LINE_BYTES], line[LINE_BYTES + 32];
	int n;

	vsnprintf(text, sizeof(text), format, ap);
	escape(text, safe, sizeof(safe));
	if (syslog_wanted) {
		syslog(priority, "%s: %s", level, safe);
		return;
	}
	n = snprintf(line, sizeof(line), "%s: %s: %s\n", log_program, level, safe);
	if (write(STDERR_FILENO, line, n) < 0)
		return;		/* nobody reads the log: nowhere to say so */
}

void log_init(bool to_syslog, bool debug)
{
	syslog_wanted = to_syslog;
	debug_wanted = debug;
	if (to_syslog)
		openlog(log_program, LOG_PID, LOG_DAEMON);
}

bool log_is_debug(void)
{
	return debug_wanted;
}

#define DEFINE_LOG(name, priority)				\
	void log_##name(const char *format, ...)		\
	{							\
		va_list ap;					\
								\
		va_start(ap, format);				\
		log_line(priority, #name, format, ap);		\
		va_end(ap);					\
	}

DEFINE_LOG(error, LOG_ERR)
DEFINE_LOG(warning, LOG_WARNING)
DEFINE_LOG(info, LOG_INFO)

void log_debug(const char *format, ...)
{
	va_list ap;

	if (!debug_wanted)
		return;
	va_start(ap, format);
	log_line(LOG_DEBUG, "debug", format, ap);
	va_end(ap);
}
