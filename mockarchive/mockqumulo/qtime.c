/* Times of the REST interface. */
#include "mockarchive/mockqumulo/qtime.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LAST_SECOND 253402300799	/* of the year 9999 */

/* `digits` digits from *text on, which moves past them; -1: others. */
static int take(const char **text, unsigned digits)
{
	int n = 0;

	for (; digits > 0; digits--, (*text)++) {
		if (**text < '0' || **text > '9')
			return -1;
		n = n * 10 + (**text - '0');
	}
	return n;
}

static bool take_char(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

static bool take_fraction(const char **text, uint32_t *ret_ns)
{
	uint32_t ns = 0, unit = 100000000;
	const char *at = *text;

	for (; *at >= '0' && *at <= '9'; at++, unit /= 10) {
		if (!unit)
			return false;
		ns += (*at - '0') * unit;
	}
	if (at == *text)
		return false;
	*text = at;
	*ret_ns = ns;
	return true;
}

static bool take_zone(const char **text, bool allow_offset, int *ret_offset_s)
{
	int sign = **text == '-' ? -1 : 1, hours, minutes;

	if (take_char(text, 'Z')) {
		*ret_offset_s = 0;
		return true;
	}
	if (!allow_offset || (!take_char(text, '+') && !take_char(text, '-')))
		return false;
	hours = take(text, 2);
	minutes = hours >= 0 && take_char(text, ':') ? take(text, 2) : -1;
	if (hours > 23 || minutes < 0 || minutes > 59)
		return false;
	*ret_offset_s = sign * (hours * 3600 + minutes * 60);
	return true;
}

int qtime_parse(const char *text, bool allow_offset, struct qtime *ret_time)
{
	struct tm tm = { 0 }, back;
	struct qtime t = { 0 };
	int offset_s;
	time_t s;

	if ((tm.tm_year = take(&text, 4)) < 1970 || !take_char(&text, '-') || (tm.tm_mon = take(&text, 2)) < 1 || !take_char(&text, '-') ||
	    (tm.tm_mday = take(&text, 2)) < 1 || !take_char(&text, 'T') || (tm.tm_hour = take(&text, 2)) < 0 || !take_char(&text, ':') ||
	    (tm.tm_min = take(&text, 2)) < 0 || !take_char(&text, ':') || (tm.tm_sec = take(&text, 2)) < 0)
		return -EINVAL;
	if (take_char(&text, '.') && !take_fraction(&text, &t.ns))
		return -EINVAL;
	if (!take_zone(&text, allow_offset, &offset_s) || *text)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	back = tm;
	s = timegm(&back);
	/* timegm() makes 1 March of 30 February. */
	if (back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday || back.tm_hour != tm.tm_hour || back.tm_min != tm.tm_min ||
	    back.tm_sec != tm.tm_sec)
		return -EINVAL;
	t.s = s - offset_s;
	if (t.s < 0 || t.s > LAST_SECOND)
		return -EINVAL;
	*ret_time = t;
	return 0;
}

void qtime_format(struct qtime t, char ret_text[QTIME_TEXT_BYTES])
{
	time_t s = t.s;
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(ret_text, QTIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	if (t.ns) {
		n += snprintf(ret_text + n, QTIME_TEXT_BYTES - n, ".%09u", t.ns);
		while (ret_text[n - 1] == '0')
			n--;
	}
	snprintf(ret_text + n, QTIME_TEXT_BYTES - n, "Z");
}

int qtime_compare(struct qtime a, struct qtime b)
{
	if (a.s != b.s)
		return a.s < b.s ? -1 : 1;
	return a.ns < b.ns ? -1 : a.ns > b.ns;
}

void qtime_format_http(int64_t s, char ret_text[QTIME_TEXT_BYTES])
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t t = s;
	struct tm tm;

	/* Not strftime(): its names follow the locale. */
	gmtime_r(&t, &tm);
	snprintf(ret_text, QTIME_TEXT_BYTES, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
		tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}
