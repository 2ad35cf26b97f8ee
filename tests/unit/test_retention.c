/* Periods, dates and what counts as an extension. T25 of worm-semantics.md. */
#include "tests/unit/unit.h"

#include <time.h>

#include "lockstore/retention.h"

#define LAST_S INT64_C(253402300799)
#define UNTOUCHED { RETENTION_IS_UNSPECIFIED, 4711, 4711 }

static void test_parse_accepts(void **state)
{
	static const struct { const char *text; int kind; int64_t seconds; int32_t months; } cases[] = {
		{ "0s", RETENTION_PERIOD, 0, 0 },
		{ "90s", RETENTION_PERIOD, 90, 0 },
		{ "12h", RETENTION_PERIOD, 43200, 0 },
		{ "30d", RETENTION_PERIOD, 2592000, 0 },
		{ "2w", RETENTION_PERIOD, 1209600, 0 },
		{ "6mo", RETENTION_PERIOD, 0, 6 },
		{ "7y", RETENTION_PERIOD, 0, 84 },
		{ "1y6mo", RETENTION_PERIOD, 0, 18 },
		{ "1y1y", RETENTION_PERIOD, 0, 24 },
		{ "1s1y2d", RETENTION_PERIOD, 172801, 12 },
		{ "0030d", RETENTION_PERIOD, 2592000, 0 },
		{ "8029y", RETENTION_PERIOD, 0, 96348 },
		{ "253402300799s", RETENTION_PERIOD, LAST_S, 0 },
		{ "1970-01-01", RETENTION_DATE, 0, 0 },
		{ "2030-01-01", RETENTION_DATE, 1893456000, 0 },
		{ "2024-02-29", RETENTION_DATE, 1709164800, 0 },
		{ "2000-02-29", RETENTION_DATE, 951782400, 0 },
		{ "2030-01-01T12:00:00Z", RETENTION_DATE, 1893499200, 0 },
		{ "2030-01-01 12:00:00Z", RETENTION_DATE, 1893499200, 0 },
		{ "2030-01-01T12:00:00+02:00", RETENTION_DATE, 1893492000, 0 },
		{ "2030-01-01T12:00:00-05:30", RETENTION_DATE, 1893519000, 0 },
		{ "2029-12-31T23:30:00-00:30", RETENTION_DATE, 1893456000, 0 },
		{ "1970-01-01T01:00:00+01:00", RETENTION_DATE, 0, 0 },
		{ "2030-01-01T12:00:00.000Z", RETENTION_DATE, 1893499200, 0 },
		{ "2030-01-01T12:00:00.001Z", RETENTION_DATE, 1893499201, 0 },
		{ "2030-01-01T12:00:00.9+00:00", RETENTION_DATE, 1893499201, 0 },
		{ "2016-12-31T23:59:60Z", RETENTION_DATE, 1483228800, 0 },
		{ "2017-01-01T00:59:60+01:00", RETENTION_DATE, 1483228800, 0 },
		{ "2038-01-19T03:14:08Z", RETENTION_DATE, INT64_C(1) << 31, 0 },
		{ "2071-01-01", RETENTION_DATE, INT64_C(3187296000), 0 },
		{ "2106-02-07T06:28:16Z", RETENTION_DATE, INT64_C(1) << 32, 0 },
		{ "9999-12-31T23:59:59Z", RETENTION_DATE, LAST_S, 0 },
		{ "@0", RETENTION_DATE, 0, 0 },
		{ "@1893456000", RETENTION_DATE, 1893456000, 0 },
		{ "@253402300799", RETENTION_DATE, LAST_S, 0 },
		{ "infinite", RETENTION_IS_INFINITE, 0, 0 },
		{ "unspecified", RETENTION_IS_UNSPECIFIED, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retention r = UNTOUCHED;

		CHECK_INT(cases[i].text, retention_parse(cases[i].text, &r), 0);
		CHECK_INT(cases[i].text, r.kind, cases[i].kind);
		CHECK_INT(cases[i].text, r.seconds, cases[i].seconds);
		CHECK_INT(cases[i].text, r.months, cases[i].months);
	}
}

static void test_parse_refuses(void **state)
{
	static const char *const cases[] = {
		"", " ", "30", "d", "30 d", " 30d", "30d ", "+30d", "-30d", "30D", "30x", "5m", "1.5d", "30d5", "1yy",
		"0x10s", "8030y", "96360mo", "8029y12mo", "8029y366d", "253402300800s", "99999999999999999999s",
		"18446744073709551617d", "9223372036854775807y", "4294967296y", "9223372036854775807s1s",
		"2030", "2030-01", "2030-1-1", "30-01-01", "2030/01/01", "2030-00-01", "2030-13-01", "2030-01-00",
		"2030-01-32", "2030-02-29", "2100-02-29", "2030-04-31", "2030-01-01T", "2030-01-01T12",
		"2030-01-01T12:00", "2030-01-01T12:00Z", "2030-01-01T12:00:00", "2030-01-01T24:00:00Z",
		"2030-01-01T12:60:00Z", "2030-01-01T12:00:61Z", "2030-01-01T12:00:60Z", "2030-01-01T12:00:00.Z",
		"2030-01-01T12:00:00,5Z", "2030-01-01T12:00:00+0200", "2030-01-01T12:00:00+24:00",
		"2030-01-01T12:00:00+02:60", "2030-01-01T12:00:00ZZ", "2030-01-01T12:00:00Z ", "2030-01-01t12:00:00z",
		"2030-01-01Z", "1969-12-31", "1970-01-01T00:00:00+00:01", "10000-01-01", "9999-12-31T23:59:59.5Z",
		"9999-12-31T23:59:60Z", "9999-12-31T23:59:59-00:01", "@", "@-1", "@+1", "@1s", "@253402300800",
		"@18446744073709551616", "Infinite", "infinite ", "never", "unspecified1", "inf",
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retention r = UNTOUCHED;

		CHECK_INT(cases[i], retention_parse(cases[i], &r), -EINVAL);
		CHECK("a refused text leaves the output alone", r.seconds == 4711 && r.months == 4711);
	}
}

static int64_t at(const char *date)
{
	struct retention r = UNTOUCHED;

	CHECK_INT(date, retention_parse(date, &r), 0);
	return r.seconds;
}

static void test_until(void **state)
{
	static const struct { const char *promise, *period, *from, *until; } cases[] = {
		{ "seconds are added",               "90s", "2030-01-01T00:00:00Z", "2030-01-01T00:01:30Z" },
		{ "a day has 86400 seconds",         "30d", "2030-01-01T11:22:33Z", "2030-01-31T11:22:33Z" },
		{ "29 Feb + 1y is 1 Mar",            "1y", "2024-02-29T12:00:00Z", "2025-03-01T12:00:00Z" },
		{ "29 Feb + 4y is 29 Feb",           "4y", "2024-02-29", "2028-02-29" },
		{ "29 Feb + 4y is 1 Mar in 2100",    "4y", "2096-02-29", "2100-03-01" },
		{ "28 Feb + 1y is 28 Feb",           "1y", "2023-02-28", "2024-02-28" },
		{ "31 Jan + 1mo is 1 Mar",           "1mo", "2030-01-31", "2030-03-01" },
		{ "31 Jan + 1mo in a leap year, too", "1mo", "2024-01-31", "2024-03-01" },
		{ "31 May + 1mo is 1 Jul",           "1mo", "2030-05-31", "2030-07-01" },
		{ "31 Oct + 1mo is 1 Dec",           "1mo", "2030-10-31", "2030-12-01" },
		{ "31 Dec + 1mo is 31 Jan",          "1mo", "2030-12-31", "2031-01-31" },
		{ "31 Dec + 2mo is 1 Mar",           "2mo", "2030-12-31", "2031-03-01" },
		{ "30 Nov + 3mo is 1 Mar",           "3mo", "2030-11-30", "2031-03-01" },
		{ "months first, then days",         "1mo1d", "2030-01-31", "2030-03-02" },
		{ "years are calendar years",        "7y", "2023-03-01", "2030-03-01" },
		{ "over 2038",                       "1y", "2038-01-19T03:14:07Z", "2039-01-19T03:14:07Z" },
		{ "past 2071",                       "30y", "2041-06-01", "2071-06-01" },
		{ "over 2106",                       "1y", "2106-02-07T06:28:15Z", "2107-02-07T06:28:15Z" },
		{ "100 years",                       "100y", "2025-07-31T23:59:59Z", "2125-07-31T23:59:59Z" },
		{ "stops at the end of 9999",        "100y", "9950-01-01", "9999-12-31T23:59:59Z" },
		{ "stops there with seconds, too",   "253402300799s", "2030-01-01", "9999-12-31T23:59:59Z" },
		{ "a day past the end",              "1d", "9999-12-31T12:00:00Z", "9999-12-31T23:59:59Z" },
		{ "zero is now",                     "0s", "2030-01-01", "2030-01-01" },
		{ "a date is that date",             "2030-01-01", "2040-01-01", "2030-01-01" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retention r = UNTOUCHED;

		CHECK_INT(cases[i].period, retention_parse(cases[i].period, &r), 0);
		CHECK_INT(cases[i].promise, retention_until(&r, at(cases[i].from)), at(cases[i].until));
	}
}

static void test_until_limits(void **state)
{
	static const int64_t froms[] = { INT64_MIN, INT64_MIN + 1, -LAST_S, -1, 0, LAST_S - 1, LAST_S, LAST_S + 1,
					 INT64_MAX - 1, INT64_MAX };
	static const struct retention periods[] = {
		{ RETENTION_PERIOD, 0, 0 }, { RETENTION_PERIOD, 1, 1 }, { RETENTION_PERIOD, INT64_MAX, INT32_MAX },
		{ RETENTION_PERIOD, INT64_MAX, 0 }, { RETENTION_PERIOD, 0, INT32_MAX },
		{ RETENTION_PERIOD, INT64_MIN, INT32_MIN },
	};
	struct retention forever = { .kind = RETENTION_IS_INFINITE }, open = { .kind = RETENTION_IS_UNSPECIFIED };
	struct retention far_date = { .kind = RETENTION_DATE, .seconds = INT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(periods); i++)
		for (size_t j = 0; j < ARRAY_SIZE(froms); j++) {
			int64_t until = retention_until(&periods[i], froms[j]);

			CHECK("a period never gives one of the two words",
			      until != RETENTION_INFINITE && until != RETENTION_UNSPECIFIED);
			CHECK("never past 9999", until <= LAST_S);
			CHECK("never before its start", until >= froms[j] || until == LAST_S);
		}
	CHECK_INT("infinite", retention_until(&forever, 5), RETENTION_INFINITE);
	CHECK_INT("unspecified", retention_until(&open, 5), RETENTION_UNSPECIFIED);
	CHECK_INT("a date is no word either", retention_until(&far_date, 5), LAST_S);
	CHECK_INT("before 1970 the calendar goes on", retention_until(&(struct retention){ .months = 1 }, -1),
		  31 * 86400 - 1);
}

/* The C library's calendar is the second opinion. */
static void test_calendar_agrees_with_libc(void **state)
{
	static const struct retention one_month = { .kind = RETENTION_PERIOD, .months = 1 };
	char text[RETENTION_TEXT_BYTES], want[64];
	struct tm tm;

	for (int64_t s = -62135596800; s < LAST_S; s += 86400 * 13 + 3607) {
		time_t t = s;

		assert_non_null(gmtime_r(&t, &tm));
		strftime(want, sizeof(want), "-%m-%dT%H:%M:%SZ", &tm);
		retention_format_until(s, text);
		CHECK_STR("the date is libc's", text + 4, want);
		CHECK_INT("so is the year", atoi(text), tm.tm_year + 1900);
		/* timegm() carries a day that is too many over into the next month: also "later, never earlier",
		 * but the 3rd where we say the 1st. So only days that exist are compared. */
		tm.tm_mon++;
		if (tm.tm_mday <= 28 && timegm(&tm) <= LAST_S)
			CHECK_INT("a month later is libc's", retention_until(&one_month, s), timegm(&tm));
	}
}

static void test_format(void **state)
{
	static const struct { const char *in, *out; } cases[] = {
		{ "0s", "0s" }, { "90s", "90s" }, { "3600s", "1h" }, { "5400s", "5400s" }, { "24h", "1d" }, { "25h", "25h" },
		{ "7d", "1w" }, { "8d", "8d" }, { "1w1d", "8d" }, { "14d", "2w" }, { "30d", "30d" }, { "365d", "365d" },
		{ "1d1s", "1d1s" }, { "99w1h", "99w1h" }, { "12mo", "1y" }, { "18mo", "18mo" }, { "1y6mo", "18mo" },
		{ "7y", "7y" }, { "1y30d", "1y30d" }, { "6mo2w1s", "6mo2w1s" }, { "0y", "0s" },
		{ "2030-01-01", "2030-01-01" }, { "@1893456000", "2030-01-01" },
		{ "2030-01-01T12:00:00+02:00", "2030-01-01T10:00:00Z" }, { "@1", "1970-01-01T00:00:01Z" },
		{ "infinite", "infinite" }, { "unspecified", "unspecified" },
		{ "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z" },
	};
	char buf[RETENTION_TEXT_BYTES], tiny[4] = "###";

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retention r = UNTOUCHED, again = UNTOUCHED;

		CHECK_INT(cases[i].in, retention_parse(cases[i].in, &r), 0);
		retention_format(&r, buf, sizeof(buf));
		CHECK_STR(cases[i].in, buf, cases[i].out);
		CHECK_INT("what is written is read", retention_parse(buf, &again), 0);
		CHECK("as the same value", again.kind == r.kind && again.seconds == r.seconds && again.months == r.months);
	}
	retention_format(&(struct retention){ .kind = RETENTION_PERIOD, .months = 100, .seconds = 1 }, tiny, 3);
	CHECK_STR("a short buffer is cut and ended", tiny, "10");
}

/* Every period is read back as the same value. */
static void test_format_round_trip(void **state)
{
	char buf[RETENTION_TEXT_BYTES];

	for (int64_t s = 1; s < LAST_S; s = s * 17 / 10 + 11)
		for (int32_t months = 0; months < 90000; months = months * 3 + 7) {
			struct retention r = { RETENTION_PERIOD, s, months }, again = UNTOUCHED;

			retention_format(&r, buf, sizeof(buf));
			if (retention_parse(buf, &again) == -EINVAL) {
				CHECK("only what ends past 9999 is not read",
				      s / 86400 + months * INT64_C(30) > INT64_C(365) * 8000);
				continue;
			}
			CHECK(buf, again.kind == r.kind && again.seconds == s && again.months == months);
		}
}

static void test_format_until(void **state)
{
	static const struct { int64_t s; const char *text; } cases[] = {
		{ 0, "1970-01-01T00:00:00Z" },
		{ -1, "1969-12-31T23:59:59Z" },
		{ 1893456000, "2030-01-01T00:00:00Z" },
		{ INT64_C(1) << 31, "2038-01-19T03:14:08Z" },
		{ INT64_C(1) << 32, "2106-02-07T06:28:16Z" },
		{ LAST_S, "9999-12-31T23:59:59Z" },
		{ INT64_MAX, "infinite" },
		{ INT64_MIN, "unspecified" },
		{ INT64_MAX - 1, "292277026596-12-04T15:30:06Z" },
		{ INT64_MIN + 1, "-292277022657-01-27T08:29:53Z" },
	};
	char buf[RETENTION_TEXT_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		retention_format_until(cases[i].s, buf);
		CHECK_STR("end of retention", buf, cases[i].text);
	}
}

static void test_is_later(void **state)
{
	static const struct { const char *promise; int64_t a, b; bool later; } cases[] = {
		{ "a later date extends",                 100, 101, true },
		{ "an equal date does not",               100, 100, false },
		{ "an earlier date does not",             100, 99, false },
		{ "also before 1970",                     -2, -1, true },
		{ "infinite extends a date",              LAST_S, INT64_MAX, true },
		{ "no date extends infinite",             INT64_MAX, LAST_S, false },
		{ "infinite does not extend itself",      INT64_MAX, INT64_MAX, false },
		{ "unspecified may become a date",        INT64_MIN, 0, true },
		{ "also one that has passed",             INT64_MIN, INT64_MIN + 1, true },
		{ "unspecified may become infinite",      INT64_MIN, INT64_MAX, true },
		{ "unspecified does not extend itself",   INT64_MIN, INT64_MIN, false },
		{ "a date never becomes unspecified",     100, INT64_MIN, false },
		{ "infinite never becomes unspecified",   INT64_MAX, INT64_MIN, false },
		{ "over 2038",                            INT32_MAX, INT64_C(1) << 31, true },
		{ "over 2106",                            UINT32_MAX, INT64_C(1) << 32, true },
		{ "and not back over 2106",               INT64_C(1) << 32, 1, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].promise, retention_is_later(cases[i].a, cases[i].b), cases[i].later);
}

static void test_mode(void **state)
{
	static const char *const wrong[] = { "", "Governance", "compliance ", "enterprise" };
	enum worm_mode mode = WORM_GOVERNANCE;

	for (int m = WORM_GOVERNANCE; m <= WORM_COMPLIANCE; m++) {
		CHECK_INT("a mode's name is read", worm_mode_parse(worm_mode_name((enum worm_mode)m), &mode), 0);
		CHECK_INT("as that mode", mode, m);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		CHECK_INT(wrong[i], worm_mode_parse(wrong[i], &mode), -EINVAL);
	CHECK_INT("and the output stays", mode, WORM_COMPLIANCE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_accepts),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_until),
		cmocka_unit_test(test_until_limits),
		cmocka_unit_test(test_calendar_agrees_with_libc),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_format_round_trip),
		cmocka_unit_test(test_format_until),
		cmocka_unit_test(test_is_later),
		cmocka_unit_test(test_mode),
	};

	return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
