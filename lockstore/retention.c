/* Periods, dates and the order of two ends of retention.
 *
 * Rules that always hold here: a period never ends earlier than written (a missing day moves on to
 * the next month, a fraction of a second counts as a whole one), and nothing overflows: every sum
 * stops at the last second of the year 9999, the last that RFC 3339 can write. */
#include "lockstore/retention.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DAY_S 86400
#define LAST_S INT64_C(253402300799)	/* 9999-12-31T23:59:59Z */
#define LAST_MONTHS (12 * 10000)	/* more than any period that stays before the year 10000 */

/* Biggest first. */
static const struct unit {
	const char *name;
	int64_t seconds;
	int32_t months;
} units[] = {
	{ "y", 0, 12 },
	{ "mo", 0, 1 },
	{ "w", 7 * DAY_S, 0 },
	{ "d", DAY_S, 0 },
	{ "h", 3600, 0 },
	{ "s", 1, 0 },
};
#define NUNITS (sizeof(units) / sizeof(units[0]))
#define FIRST_SECONDS_UNIT 2

/* Days since 1970-01-01 of a date in the Gregorian calendar, which is carried back before 1582 as
 * RFC 3339 does. Source: H. Hinnant, chrono-compatible low-level date algorithms, days_from_civil. */
static int64_t days_of(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

/* The way back; source: the same, civil_from_days. */
static void date_of(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t day_of_era = z - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * day_of_year + 2) / 153;	/* March is 0 */

	*ret_day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
	*ret_month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
	*ret_year = year_of_era + era * 400 + (*ret_month <= 2);
}

static int days_in(int64_t year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return month == 2 && leap ? 29 : days[month - 1];
}

/* Rounds towards the past, so that the rest of a moment before 1970 is positive too. */
static int64_t floor_days(int64_t s)
{
	return s / DAY_S - (s % DAY_S < 0);
}

static int second_of_day(int64_t s)
{
	return (int)((s % DAY_S + DAY_S) % DAY_S);
}

/* Unsigned decimal at *text, no sign and no space. Never more than `max`. */
static int parse_number(const char **text, int64_t max, int64_t *ret_n)
{
	const char *p = *text;
	int64_t n = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (n > (max - (*p - '0')) / 10)
			return -EINVAL;
		n = n * 10 + (*p - '0');
	}
	*text = p;
	*ret_n = n;
	return 0;
}

/* Exactly `ndigits` digits whose value lies in [min, max]. */
static int parse_field(const char **text, int ndigits, int min, int max, int *ret_value)
{
	int value = 0;

	for (int i = 0; i < ndigits; i++) {
		char c = (*text)[i];

		if (c < '0' || c > '9')
			return -EINVAL;
		value = value * 10 + (c - '0');
	}
	if (value < min || value > max)
		return -EINVAL;
	*text += ndigits;
	*ret_value = value;
	return 0;
}

static int parse_char(const char **text, char want)
{
	if (**text != want)
		return -EINVAL;
	(*text)++;
	return 0;
}

/* "T12:00:00.5+01:00": seconds after midnight UTC of the day that is written, possibly negative. */
static int parse_time(const char **text, int64_t *ret_s)
{
	int hour, minute, second, off_hour = 0, off_minute = 0, sign = 0;
	bool fraction = false;
	int64_t s;

	if (**text != 'T' && **text != ' ')
		return -EINVAL;
	(*text)++;
	if (parse_field(text, 2, 0, 23, &hour) < 0 || parse_char(text, ':') < 0 ||
	    parse_field(text, 2, 0, 59, &minute) < 0 || parse_char(text, ':') < 0 ||
	    parse_field(text, 2, 0, 60, &second) < 0)
		return -EINVAL;
	if (**text == '.') {
		(*text)++;
		if (**text < '0' || **text > '9')
			return -EINVAL;
		for (; **text >= '0' && **text <= '9'; (*text)++)
			fraction |= **text != '0';
	}
	if (**text == 'Z') {
		(*text)++;
	} else {
		sign = **text == '+' ? 1 : **text == '-' ? -1 : 0;
		if (!sign)
			return -EINVAL;
		(*text)++;
		if (parse_field(text, 2, 0, 23, &off_hour) < 0 || parse_char(text, ':') < 0 ||
		    parse_field(text, 2, 0, 59, &off_minute) < 0)
			return -EINVAL;
	}
	s = hour * 3600 + minute * 60 + second - sign * (off_hour * 3600 + off_minute * 60);
	/* A leap second is inserted at the end of a UTC day. Source: RFC 3339 section 5.7. */
	if (second == 60 && s % DAY_S != 0)
		return -EINVAL;
	*ret_s = s + fraction;
	return 0;
}

static int parse_date(const char *text, int64_t *ret_s)
{
	int year, month, day;
	int64_t s = 0;

	if (parse_field(&text, 4, 0, 9999, &year) < 0 || parse_char(&text, '-') < 0 ||
	    parse_field(&text, 2, 1, 12, &month) < 0 || parse_char(&text, '-') < 0 ||
	    parse_field(&text, 2, 1, days_in(year, month), &day) < 0)
		return -EINVAL;
	if (*text && parse_time(&text, &s) < 0)
		return -EINVAL;
	if (*text)
		return -EINVAL;
	s += days_of(year, month, day) * DAY_S;
	if (s < 0 || s > LAST_S)
		return -EINVAL;
	*ret_s = s;
	return 0;
}

static int parse_period(const char *text, struct retention *ret_retention)
{
	struct retention r = { .kind = RETENTION_PERIOD };
	int64_t months = 0, n;
	size_t i;

	do {
		if (parse_number(&text, LAST_S, &n) < 0)
			return -EINVAL;
		for (i = 0; i < NUNITS; i++)
			if (strncmp(text, units[i].name, strlen(units[i].name)) == 0)
				break;
		if (i == NUNITS)
			return -EINVAL;
		text += strlen(units[i].name);
		/* n is below 2^38 and a unit below 2^20: no product and no sum of two overflows. */
		months += n * units[i].months;
		r.seconds += n * units[i].seconds;
		if (months > LAST_MONTHS || r.seconds > LAST_S)
			return -EINVAL;
	} while (*text);
	r.months = (int32_t)months;
	/* Counted from 1970 the period must end before the year 10000, or it says nothing. */
	if (days_of(1970 + r.months / 12, r.months % 12 + 1, 1) * DAY_S + r.seconds > LAST_S)
		return -EINVAL;
	*ret_retention = r;
	return 0;
}

int retention_parse(const char *text, struct retention *ret_retention)
{
	struct retention r = { 0 };

	if (strcmp(text, "infinite") == 0) {
		r.kind = RETENTION_IS_INFINITE;
	} else if (strcmp(text, "unspecified") == 0) {
		r.kind = RETENTION_IS_UNSPECIFIED;
	} else if (text[0] == '@') {
		r.kind = RETENTION_DATE;
		text++;
		if (parse_number(&text, LAST_S, &r.seconds) < 0 || *text)
			return -EINVAL;
	} else if (strchr(text, '-')) {
		r.kind = RETENTION_DATE;
		if (parse_date(text, &r.seconds) < 0)
			return -EINVAL;
	} else {
		return parse_period(text, ret_retention);
	}
	*ret_retention = r;
	return 0;
}

/* The same day and time, `months` later; the 1st of the month after where there is no such day. */
static int64_t add_months(int64_t from_s, int32_t months)
{
	int64_t days = floor_days(from_s), year, month0;
	int month, day;

	date_of(days, &year, &month, &day);
	month0 = year * 12 + (month - 1) + months;
	year = month0 / 12 - (month0 % 12 < 0);
	month = (int)(month0 - year * 12) + 1;
	if (day > days_in(year, month)) {
		day = 1;
		year += month == 12;
		month = month % 12 + 1;
	}
	return days_of(year, month, day) * DAY_S + second_of_day(from_s);
}

int64_t retention_until(const struct retention *r, int64_t from_s)
{
	int64_t until;

	switch (r->kind) {
	case RETENTION_IS_INFINITE:
		return RETENTION_INFINITE;
	case RETENTION_IS_UNSPECIFIED:
		return RETENTION_UNSPECIFIED;
	case RETENTION_DATE:
		return r->seconds < LAST_S ? r->seconds : LAST_S;
	case RETENTION_PERIOD:
		break;
	}
	if (from_s >= LAST_S)
		return LAST_S;
	if (from_s < -LAST_S)	/* a clock that is this wrong gives no date of ours; and no calendar overflows */
		from_s = -LAST_S;
	until = r->months > 0 ? add_months(from_s, r->months) : from_s;
	if (r->seconds > 0 && __builtin_add_overflow(until, r->seconds, &until))
		return LAST_S;
	return until < LAST_S ? until : LAST_S;
}

/* Appends to buf as snprintf() would; *len counts on beyond the end. */
static void append(char *buf, size_t len_bytes, size_t *len, int64_t n, const char *unit)
{
	bool room = *len < len_bytes;

	*len += (size_t)snprintf(room ? buf + *len : NULL, room ? len_bytes - *len : 0, "%lld%s", (long long)n, unit);
}

/* Writes the period with the units of `subset` (bit 0 = weeks ... bit 3 = seconds), each as often as
 * it fits. False: something is left over. */
static bool format_seconds(int64_t seconds, unsigned subset, char *buf, size_t len_bytes)
{
	size_t len = 0;

	for (unsigned u = 0; u < NUNITS - FIRST_SECONDS_UNIT; u++) {
		const struct unit *unit = &units[FIRST_SECONDS_UNIT + u];

		if (!(subset & 1u << u) || seconds < unit->seconds)
			continue;
		append(buf, len_bytes, &len, seconds / unit->seconds, unit->name);
		seconds %= unit->seconds;
	}
	return seconds == 0;
}

static void format_period(const struct retention *r, char *buf, size_t len_bytes)
{
	char best[64] = "", text[64];
	size_t len = 0;

	/* 18 months are "18mo": a mixed form is never shorter. */
	if (r->months && r->months % 12 == 0)
		append(buf, len_bytes, &len, r->months / 12, "y");
	else if (r->months)
		append(buf, len_bytes, &len, r->months, "mo");
	for (unsigned subset = 1; r->seconds && subset < 16; subset++)
		if (format_seconds(r->seconds, subset, text, sizeof(text)) &&
		    (!best[0] || strlen(text) < strlen(best)))
			memcpy(best, text, sizeof(best));
	if (!r->months && !r->seconds)
		memcpy(best, "0s", 3);
	if (len < len_bytes)
		snprintf(buf + len, len_bytes - len, "%s", best);
}

void retention_format(const struct retention *r, char *buf, size_t len_bytes)
{
	char text[RETENTION_TEXT_BYTES];

	switch (r->kind) {
	case RETENTION_PERIOD:
		format_period(r, buf, len_bytes);
		return;
	case RETENTION_IS_INFINITE:
		snprintf(buf, len_bytes, "infinite");
		return;
	case RETENTION_IS_UNSPECIFIED:
		snprintf(buf, len_bytes, "unspecified");
		return;
	case RETENTION_DATE:
		retention_format_until(r->seconds, text);
		if (r->seconds % DAY_S == 0 && strchr(text, 'T'))
			*strchr(text, 'T') = '\0';
		snprintf(buf, len_bytes, "%s", text);
		return;
	}
}

void retention_format_until(int64_t until_s, char buf[RETENTION_TEXT_BYTES])
{
	int64_t days = floor_days(until_s), year;
	int month, day, s;

	if (until_s == RETENTION_INFINITE || until_s == RETENTION_UNSPECIFIED) {
		strcpy(buf, until_s == RETENTION_INFINITE ? "infinite" : "unspecified");
		return;
	}
	date_of(days, &year, &month, &day);
	s = second_of_day(until_s);
	/* Beyond four digits it is no RFC 3339 any more, but still says which year; the longest has 30 bytes. */
	snprintf(buf, RETENTION_TEXT_BYTES, "%04lld-%02d-%02dT%02d:%02d:%02dZ", (long long)year, month, day,
		 s / 3600, s / 60 % 60, s % 60);
}

bool retention_is_later(int64_t a_until_s, int64_t b_until_s)
{
	_Static_assert(RETENTION_UNSPECIFIED < -LAST_S && RETENTION_INFINITE > LAST_S,
		       "the two words lie outside all dates, so that their order is the order of numbers");
	return b_until_s > a_until_s;
}

int worm_mode_parse(const char *text, enum worm_mode *ret_mode)
{
	if (strcmp(text, "governance") == 0)
		*ret_mode = WORM_GOVERNANCE;
	else if (strcmp(text, "compliance") == 0)
		*ret_mode = WORM_COMPLIANCE;
	else
		return -EINVAL;
	return 0;
}

const char *worm_mode_name(enum worm_mode mode)
{
	return mode == WORM_COMPLIANCE ? "compliance" : "governance";
}
