/* Pure output. Whatever comes from a name or a file is made printable and escaped in text(). */
#include "lockstore/wormctl/report.h"

#include <stdlib.h>
#include <string.h>

#include "lockstore/wormctl/output.h"

#define MONTHS_MAX 60	/* more of them are shown as years */
#define CHART_WIDTH 860
#define CHART_HEIGHT 200

static const char style[] =
	"body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#1b1f24;background:#fff}"
	"h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:2em 0 .5em;border-bottom:1px solid #d0d7de}"
	"p.sub{color:#57606a;margin:.2em 0 1.5em}table{border-collapse:collapse;width:100%}"
	"td,th{padding:.25em .6em;text-align:left;border-bottom:1px solid #eaeef2}td.n,th.n{text-align:right;"
	"font-variant-numeric:tabular-nums}.cards{display:flex;flex-wrap:wrap;gap:1em}.card{flex:1 1 150px;border:1px solid #d0d7de;"
	"border-radius:6px;padding:.6em 1em}.card b{display:block;font-size:1.4em}.bad{color:#b42318}.good{color:#1a7f37}"
	"svg{display:block}svg text{font:11px system-ui,sans-serif;fill:#57606a}rect.bar{fill:#2f6f9f}"
	"@media print{body{margin:0}}";

void report_format_bytes(double bytes, char text[REPORT_BYTES_TEXT])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	unsigned unit = 0;

	for (; bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		bytes /= 1024;
	snprintf(text, REPORT_BYTES_TEXT, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

static void text(FILE *out, const char *raw)
{
	char *printable = NULL;
	size_t len = 0;
	FILE *memory = open_memstream(&printable, &len);

	if (!memory)
		return;
	print_name(memory, raw);
	fclose(memory);
	for (const char *p = printable; p && *p; p++) {
		switch (*p) {
		case '&': fputs("&amp;", out); break;
		case '<': fputs("&lt;", out); break;
		case '>': fputs("&gt;", out); break;
		case '"': fputs("&quot;", out); break;
		case '\'': fputs("&#39;", out); break;
		default: fputc(*p, out);
		}
	}
	free(printable);
}

static void card(FILE *out, const char *label, const char *value, const char *class)
{
	fprintf(out, "<div class=\"card\"><b class=\"%s\">", class);
	text(out, value);
	fputs("</b>", out);
	text(out, label);
	fputs("</div>\n", out);
}

static void card_number(FILE *out, const char *label, int64_t value, const char *class)
{
	char number[24];

	snprintf(number, sizeof(number), "%lld", (long long)value);
	card(out, label, number, class);
}

static void card_bytes(FILE *out, const char *label, double bytes)
{
	char value[REPORT_BYTES_TEXT];

	report_format_bytes(bytes, value);
	card(out, label, value, "");
}

/* [{"name","files","bytes"}] with a bar each. */
static void group_table(FILE *out, const char *title, const char *first, const json_t *groups)
{
	char bytes[REPORT_BYTES_TEXT];
	const json_t *group;
	int64_t most = 1;
	size_t i;

	fputs("<h2>", out);
	text(out, title);
	fputs("</h2>\n", out);
	if (!json_array_size(groups)) {
		fputs("<p>none</p>\n", out);
		return;
	}
	json_array_foreach(groups, i, group)
		if (json_get_int(group, "files") > most)
			most = json_get_int(group, "files");
	fprintf(out, "<table><tr><th>%s</th><th class=\"n\">files</th><th class=\"n\">size</th><th></th></tr>\n", first);
	json_array_foreach(groups, i, group) {
		report_format_bytes((double)json_get_int(group, "bytes"), bytes);
		fputs("<tr><td>", out);
		text(out, json_get_text(group, "name"));
		fprintf(out, "</td><td class=\"n\">%lld</td><td class=\"n\">%s</td><td><svg width=\"200\" height=\"10\"><rect class=\"bar\" "
			"height=\"10\" width=\"%.1f\"/></svg></td></tr>\n", (long long)json_get_int(group, "files"), bytes,
			(double)json_get_int(group, "files") * 200 / (double)most);
	}
	fputs("</table>\n", out);
}

struct column {
	char label[16];
	int64_t files;
	double bytes;
};

/* Months with a date, and all months in between; years when there are too many. Returns how many columns. */
static size_t make_columns(const json_t *groups, struct column *columns)
{
	int first = 0, last = -1, year, month, per = 1;
	const json_t *group;
	size_t i, n;

	json_array_foreach(groups, i, group) {
		if (sscanf(json_get_text(group, "name"), "%d-%d", &year, &month) != 2)
			continue;	/* infinite, unspecified: beside the chart */
		month += year * 12 - 1;
		if (last < first || month < first)
			first = month;
		if (last < first || month > last)
			last = month;
	}
	if (last < first)
		return 0;
	while ((last / per - first / per) >= MONTHS_MAX)
		per = per == 1 ? 12 : per * 10;
	n = (size_t)(last / per - first / per) + 1;
	for (i = 0; i < n; i++) {
		int at = (first / per + (int)i) * per;

		columns[i] = (struct column){ .files = 0 };
		if (per == 1)
			snprintf(columns[i].label, sizeof(columns[i].label), "%04d-%02d", at / 12, at % 12 + 1);
		else
			snprintf(columns[i].label, sizeof(columns[i].label), "%04d", at / 12);
	}
	json_array_foreach(groups, i, group) {
		if (sscanf(json_get_text(group, "name"), "%d-%d", &year, &month) != 2)
			continue;
		month = (month + year * 12 - 1) / per - first / per;
		columns[month].files += json_get_int(group, "files");
		columns[month].bytes += (double)json_get_int(group, "bytes");
	}
	return n;
}

static void expiry_chart(FILE *out, const json_t *groups)
{
	struct column columns[MONTHS_MAX + 1];
	size_t n = make_columns(groups, columns), labels_every = n / 10 + 1;
	double width = n ? (double)CHART_WIDTH / (double)(n < 12 ? 12 : n) : 0;
	char bytes[REPORT_BYTES_TEXT];
	const json_t *group;
	int64_t most = 1;
	size_t i;

	fputs("<h2>What expires when</h2>\n", out);
	if (n) {
		for (i = 0; i < n; i++)
			if (columns[i].files > most)
				most = columns[i].files;
		fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"files by end of retention\">\n", CHART_WIDTH,
			CHART_HEIGHT + 40);
		for (i = 0; i < n; i++) {
			double height = (double)columns[i].files * CHART_HEIGHT / (double)most, x = width * (double)i;

			report_format_bytes(columns[i].bytes, bytes);
			fprintf(out, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%s: %lld files, %s</title>"
				"</rect>\n", x + 1, CHART_HEIGHT + 15 - height, width - 2, height, columns[i].label,
				(long long)columns[i].files, bytes);
			if (i % labels_every == 0)
				fprintf(out, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", x + 1, CHART_HEIGHT + 32, columns[i].label);
		}
		fprintf(out, "<text x=\"0\" y=\"10\">%lld files at most</text>\n</svg>\n", (long long)most);
	} else {
		fputs("<p>no file has a date</p>\n", out);
	}
	json_array_foreach(groups, i, group) {
		const char *name = json_get_text(group, "name");

		if (strcmp(name, "infinite") == 0 || strcmp(name, "unspecified") == 0)
			fprintf(out, "<p>%s: %lld files</p>\n", strcmp(name, "infinite") == 0 ? "for ever" : "until somebody sets a date",
				(long long)json_get_int(group, "files"));
	}
}

static void refusals(FILE *out, const json_t *mount)
{
	json_t *refused = json_object_get(mount, "refused"), *number;
	const char *op;

	fputs("<h2>Refused since it was mounted</h2>\n", out);
	if (!json_is_object(mount)) {
		fputs("<p>it is not mounted: nothing is enforced</p>\n", out);
		return;
	}
	if (!json_object_size(refused)) {
		fputs("<p>nothing</p>\n", out);
		return;
	}
	fputs("<table><tr><th>operation</th><th class=\"n\">times</th></tr>\n", out);
	json_object_foreach(refused, op, number) {
		fputs("<tr><td>", out);
		text(out, op);
		fprintf(out, "</td><td class=\"n\">%lld</td></tr>\n", (long long)json_integer_value(number));
	}
	fputs("</table>\n", out);
}

static void last_verify(FILE *out, const json_t *verify)
{
	json_t *kinds = json_object_get(verify, "kinds"), *number;
	const char *kind;

	fputs("<h2>Last verification</h2>\n", out);
	if (!json_is_object(verify)) {
		fputs("<p class=\"bad\">never: run wormctl verify</p>\n", out);
		return;
	}
	fputs("<p>finished ", out);
	text(out, json_get_text(verify, "finished"));
	if (*json_get_text(verify, "below")) {
		fputs(", only below ", out);
		text(out, json_get_text(verify, "below"));
	}
	if (*json_get_text(verify, "since")) {
		fputs(", only what was locked since ", out);
		text(out, json_get_text(verify, "since"));
	}
	fprintf(out, ": %lld files, <span class=\"%s\">%lld findings</span>, %lld could not be read, "
		"<span class=\"%s\">%lld had no digest to compare with</span></p>\n",
		(long long)json_get_int(verify, "files"), json_get_int(verify, "findings") ? "bad" : "good",
		(long long)json_get_int(verify, "findings"), (long long)json_get_int(verify, "errors"),
		json_get_int(verify, "pending") ? "bad" : "good", (long long)json_get_int(verify, "pending"));
	if (!json_object_size(kinds))
		return;
	fputs("<table><tr><th>kind</th><th class=\"n\">files</th></tr>\n", out);
	json_object_foreach(kinds, kind, number) {
		fputs("<tr><td>", out);
		text(out, kind);
		fprintf(out, "</td><td class=\"n\">%lld</td></tr>\n", (long long)json_integer_value(number));
	}
	fputs("</table>\n", out);
}

static void problems(FILE *out, const json_t *list)
{
	const json_t *problem;
	size_t i;

	if (!json_array_size(list))
		return;
	fputs("<h2>What needs a person</h2>\n<ul>\n", out);
	json_array_foreach(list, i, problem) {
		fputs("<li>", out);
		text(out, json_string_value(problem) ? json_string_value(problem) : "?");
		fputs("</li>\n", out);
	}
	fputs("</ul>\n", out);
}

void report_write_html(FILE *out, const json_t *report)
{
	const json_t *verify = json_object_get(report, "verify"), *mount = json_object_get(report, "mount");
	int64_t pending = json_get_int(report, "digests_pending"), findings = json_get_int(verify, "findings");

	fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
		"content=\"width=device-width\"><title>wormfs report</title>\n<style>%s</style></head><body>\n<h1>", style);
	text(out, json_get_text(report, "share"));
	fputs("</h1>\n<p class=\"sub\">wormfs report, ", out);
	text(out, json_get_text(report, "made"));
	fputs(", share ", out);
	text(out, json_get_text(report, "share_id"));
	fputs(json_is_object(mount) ? ", mounted</p>\n<div class=\"cards\">\n" : ", not mounted</p>\n<div class=\"cards\">\n", out);
	card_number(out, "locked files", json_get_int(report, "files"), "");
	card_bytes(out, "locked data", (double)json_get_int(report, "bytes"));
	card_number(out, "digests pending", pending, "");
	if (json_is_object(verify))
		card_number(out, "findings of the last verification", findings, findings ? "bad" : "good");
	else
		card(out, "verification", "never", "bad");
	fputs("</div>\n", out);
	problems(out, json_object_get(mount, "problems"));
	expiry_chart(out, json_object_get(report, "by_expiry"));
	group_table(out, "By state", "state", json_object_get(report, "by_state"));
	group_table(out, "By mode", "mode", json_object_get(report, "by_mode"));
	group_table(out, "By rule", "rule", json_object_get(report, "by_rule"));
	group_table(out, "By legal hold", "hold", json_object_get(report, "by_hold"));
	refusals(out, mount);
	last_verify(out, verify);
	fputs("</body></html>\n", out);
}
