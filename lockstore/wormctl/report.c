/* report: the whole share in numbers. One object is gathered; --json prints it, text and page are made of it. */
#include "lockstore/wormctl/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/json_file.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/subject.h"
#include "lockstore/wormctl/wormctl.h"

static const struct { const char *name, *title; enum ledger_group by; } sections[] = {
	{ "by_state", "by state", LEDGER_BY_STATE }, { "by_mode", "by mode", LEDGER_BY_MODE }, { "by_rule", "by rule", LEDGER_BY_RULE },
	{ "by_hold", "by hold", LEDGER_BY_HOLD }, { "by_expiry", "by end of retention", LEDGER_BY_EXPIRY },
};

static int add_group(void *arg, const char *name, uint64_t files, uint64_t bytes)
{
	json_t *group = json_pack("{s:o,s:I,s:I}", "name", json_text(name), "files", (json_int_t)files, "bytes", (json_int_t)bytes);

	return json_array_append_new(arg, group) < 0 ? -ENOMEM : 0;
}

static int add_rule(void *arg, const char *name, uint64_t files, uint64_t bytes)
{
	return add_group(arg, *name ? name : "mount options", files, bytes);
}

struct sums {
	uint64_t files, bytes, pending;
};

static int add_sum(void *arg, const char *name, uint64_t files, uint64_t bytes)
{
	struct sums *sums = arg;

	sums->files += files;
	sums->bytes += bytes;
	if (strcmp(name, "pending") == 0)
		sums->pending += files;
	return 0;
}

static json_t *time_json(int64_t t_s)
{
	char text[RETENTION_TEXT_BYTES];

	retention_format_until(t_s, text);
	return json_string(text);
}

/* Null when there was none. */
static json_t *last_verify(const struct subject *s)
{
	json_t *json = NULL, *result, *scope;
	char *below = NULL;

	if (json_file_read(s->share->state_dir, "verify.json", &json) < 0)
		return json_null();
	scope = json_object_get(json, "scope");
	result = json_deep_copy(json_object_get(json, "totals"));
	if (result) {
		json_object_set_new(result, "finished", time_json(json_get_int(json, "finished")));
		if (control_path_decode(json_get_text(scope, "path"), &below) == 0)
			json_object_set_new(result, "below", json_text(below));
		if (json_get_int(scope, "since") != INT64_MIN)
			json_object_set_new(result, "since", time_json(json_get_int(scope, "since")));
	}
	free(below);
	json_decref(json);
	return result ? result : json_null();
}

/* What the daemon says now: the mount was asked when the share was met. */
static json_t *mount_now(const struct subject *s)
{
	json_t *mount = s->online && s->share->mount ? json_object() : NULL;

	if (!mount)
		return json_null();
	for (size_t i = 0; i < 4; i++) {
		static const char *const keys[] = { "refused", "problems", "digest", "ledger" };

		json_object_set(mount, keys[i], json_object_get(s->share->mount, keys[i]));
	}
	return mount;
}

static int gather(struct subject *s, json_t **ret_report, struct failure *f)
{
	json_t *report = json_object();
	struct sums sums = { 0 };
	int r = report ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sections); i++) {
		json_t *groups = json_array();

		r = groups ? ledger_group(s->ledger, sections[i].by, s->now_s, sections[i].by == LEDGER_BY_RULE ? add_rule : add_group,
					  groups) : -ENOMEM;
		json_object_set_new(report, sections[i].name, groups);
	}
	if (r == 0)
		r = ledger_group(s->ledger, LEDGER_BY_DIGEST, s->now_s, add_sum, &sums);
	if (r < 0) {
		json_decref(report);
		return fail(f, r, "cannot read the ledger of %s: %s", quoted(subject_name(s)), ledger_error(s->ledger));
	}
	json_object_set_new(report, "share", json_text(*subject_name(s) ? subject_name(s) : s->share->state_dir));
	json_object_set_new(report, "share_id", json_text(s->share->id));
	json_object_set_new(report, "made", time_json(s->now_s));
	json_object_set_new(report, "files", json_integer((json_int_t)sums.files));
	json_object_set_new(report, "bytes", json_integer((json_int_t)sums.bytes));
	json_object_set_new(report, "digests_pending", json_integer((json_int_t)sums.pending));
	json_object_set_new(report, "verify", last_verify(s));
	json_object_set_new(report, "mount", mount_now(s));
	*ret_report = report;
	return 0;
}

static void print_section(const char *title, const json_t *groups)
{
	char bytes[REPORT_BYTES_TEXT];
	const json_t *group;
	size_t i;

	printf("\n%s\n", title);
	json_array_foreach(groups, i, group) {
		report_format_bytes((double)json_get_int(group, "bytes"), bytes);
		printf("  %12lld files %12s  ", (long long)json_get_int(group, "files"), bytes);
		print_name(stdout, json_get_text(group, "name"));
		putchar('\n');
	}
	if (!json_array_size(groups))
		puts("  -");
}

static void print_text(const json_t *report)
{
	const json_t *verify = json_object_get(report, "verify"), *mount = json_object_get(report, "mount");
	json_t *refused = json_object_get(mount, "refused"), *number;
	char bytes[REPORT_BYTES_TEXT];
	const char *op;

	print_name(stdout, json_get_text(report, "share"));
	printf(", %s, %s\n", json_get_text(report, "made"), json_is_object(mount) ? "mounted" : "not mounted: nothing is enforced");
	report_format_bytes((double)json_get_int(report, "bytes"), bytes);
	printf("  %lld locked files, %s, %lld digests pending\n", (long long)json_get_int(report, "files"), bytes,
	       (long long)json_get_int(report, "digests_pending"));
	if (json_is_object(verify)) {
		printf("  last verified ");
		print_name(stdout, json_get_text(verify, "finished"));
		printf(": %lld files, %lld findings, %lld without a digest then\n", (long long)json_get_int(verify, "files"),
		       (long long)json_get_int(verify, "findings"), (long long)json_get_int(verify, "pending"));
	} else {
		puts("  never verified: run wormctl verify");
	}
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		print_section(sections[i].title, json_object_get(report, sections[i].name));
	puts("\nrefused since it was mounted");
	json_object_foreach(refused, op, number) {
		printf("  %12lld  ", (long long)json_integer_value(number));
		print_name(stdout, op);
		putchar('\n');
	}
	if (!json_object_size(refused))
		puts("  -");
}

static int write_page(const char *path, const json_t *report, struct failure *f)
{
	FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	int r;

	if (!out)
		return fail(f, -errno, "cannot write %s: %s", quoted(path), strerror(errno));
	report_write_html(out, report);
	if (out == stdout)
		return 0;
	r = ferror(out) ? -EIO : 0;
	if (fclose(out) != 0)
		r = -errno;
	return r < 0 ? fail(f, r, "cannot write %s: %s", quoted(path), strerror(-r)) : 0;
}

enum { OPT_HTML = OPT_OF_COMMAND, OPT_TEXT };

static int run_report(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS, { "html", required_argument, NULL, OPT_HTML }, { "text", no_argument, NULL, OPT_TEXT }, { 0 },
	};
	const char *html = NULL;
	struct subject subject;
	json_t *report = NULL;
	struct shares *shares;
	bool as_text = false;
	struct failure f;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == OPT_HTML) {
			html = optarg;
		} else if (c == OPT_TEXT) {
			as_text = true;
		} else {
			r = common_option(ctl, &command_report, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (argc - optind > 1)
		return wrong_usage(&command_report, "one share at a time");
	if (ctl->json && as_text)
		return wrong_usage(&command_report, "--text or --json, not both");
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = subject_open(ctl, shares, optind < argc ? argv[optind] : NULL, SUBJECT_LEDGER, &subject, &f);
	if (r == 0)
		r = gather(&subject, &report, &f);
	if (r == 0 && html)
		r = write_page(html, report, &f);
	if (r == 0 && ctl->json)
		r = print_json(json_incref(report)) < 0 ? fail(&f, -ENOMEM, "out of memory") : 0;
	else if (r == 0 && (as_text || !html))
		print_text(report);
	if (r < 0)
		complain("%s", f.text);
	json_decref(report);
	subject_close(&subject);
	shares_close(shares);
	return finish_output(r < 0 ? EXIT_COULD_NOT : EXIT_YES);
}

const struct command command_report = {
	.name = "report",
	.summary = "the share in numbers: what expires when, by rule and hold, refusals",
	.help =
	"Usage: wormctl report [--html FILE] [--text | --json] [PATH]\n"
	"\n"
	"Sums up the share that PATH is in: files and bytes by state, mode, rule, legal hold and end of retention,\n"
	"digests that are pending, the last wormctl verify; and of the daemon, when one runs, refusals by operation and\n"
	"what needs a person. Also with the mount stopped. Without PATH: the share that the working directory is in,\n"
	"or the one that is mounted.\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"      --html FILE    one page with charts, readable without network and script; \"-\": standard output\n"
	"      --text         text on standard output, which is the default without --html\n"
	"      --json         one JSON object: share, share_id, made, files, bytes, digests_pending, by_state, by_mode,\n"
	"                     by_rule, by_hold, by_expiry (lists of name, files, bytes), verify, mount\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"Example:\n"
	"  wormctl report --html report.html /srv/share\n"
	"\n"
	"Exit codes: 0 done, 2 could not.\n",
	.run = run_report,
};
