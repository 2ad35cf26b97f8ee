/* The commands. Each says which request it is and how the answer looks; --json prints the answer as it came. */
#include "mockarchive/ctl.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <curl/curl.h>

#include "mockarchive/http_url.h"

#define EXIT_DONE 0
#define EXIT_IN_VAIN 1
#define EXIT_FAILED 2

struct ctl {
	struct ctl_client *client;
	bool json;
	const char *copy, *state, *timeout, *fault, *hits, *pin, *id, *after;
	enum ctl_view view;
	bool force, follow;
	char *mountpoint;	/* as the instance says; got when it is needed */
};

struct command {
	const char *name, *args, *help;
	int min, max;		/* words after the name; max -1: any number */
	int (*fn)(struct ctl *ctl, const struct command *command, char **argv);
};

static int usage(const struct command *c)
{
	fprintf(stderr, "mockarchive ctl: usage: mockarchive ctl %s %s\n", c->name, c->args);
	return EXIT_FAILED;
}

/* 2xx: *ret_json (NULL where the answer has none). Everything else was said on stderr. */
static int ask(struct ctl *ctl, const char *method, const char *path, const json_t *body, json_t **ret_json)
{
	char *text = NULL;
	long status = 0;
	json_t *json;

	if (ret_json)
		*ret_json = NULL;
	if (ctl_request(ctl->client, method, path, body, &status, &text) < 0)
		return EXIT_FAILED;
	json = json_loads(text, JSON_DECODE_ANY, NULL);
	free(text);
	if (status / 100 == 2) {
		if (ret_json)
			*ret_json = json;
		else
			json_decref(json);
		return EXIT_DONE;
	}
	fprintf(stderr, "mockarchive ctl: %s\n", json_is_string(json_object_get(json, "detail")) ?
		json_string_value(json_object_get(json, "detail")) : "the server answered with an error");
	json_decref(json);
	return status == 504 ? EXIT_IN_VAIN : EXIT_FAILED;
}

static void print_json(const json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
}

/* Shows the answer, or the member of it that the showing function takes, and gives it back. */
static int show(struct ctl *ctl, int r, json_t *json, const char *member, void (*fn)(FILE *out, const json_t *json))
{
	if (r == EXIT_DONE && json) {
		if (ctl->json)
			print_json(json);
		else if (fn)
			fn(stdout, member ? json_object_get(json, member) : json);
	}
	json_decref(json);
	return r;
}

static int get(struct ctl *ctl, const char *path, const char *member, void (*fn)(FILE *out, const json_t *json))
{
	json_t *json;
	int r = ask(ctl, "GET", path, NULL, &json);

	return show(ctl, r, json, member, fn);
}

/* ---- names of files ---- */

/* A path as the archive knows it. What lies in the mount, as seen from here, is taken from there; everything else counts from the
 * root of the mount. The caller frees it. */
static char *archive_path(struct ctl *ctl, const char *arg)
{
	char copy[PATH_MAX], real[PATH_MAX], *slash, *result = NULL;
	const char *last = arg;
	json_t *state;
	size_t len;

	if (!ctl->mountpoint && ask(ctl, "GET", "/v1/state", NULL, &state) == EXIT_DONE) {
		const char *mount = json_string_value(json_object_get(state, "mountpoint"));

		ctl->mountpoint = strdup(mount ? mount : "");
		json_decref(state);
	}
	snprintf(copy, sizeof(copy), "%s", arg);
	slash = strrchr(copy, '/');
	if (slash) {
		*slash = '\0';
		last = arg + (slash - copy) + 1;
	}
	len = ctl->mountpoint ? strlen(ctl->mountpoint) : 0;
	if (len && realpath(slash ? *copy ? copy : "/" : ".", real) && strncmp(real, ctl->mountpoint, len) == 0 &&
	    (real[len] == '/' || !real[len])) {
		if (asprintf(&result, "%s/%s", real + len, last) < 0)
			result = NULL;
		return result;
	}
	return strdup(arg);
}

/* "PREFIX" and the path, encoded but for its slashes. */
static char *url_of(const char *prefix, const char *path)
{
	char *encoded = http_percent_encode(path + strspn(path, "/"), strlen(path + strspn(path, "/"))), *url = NULL, *out;

	if (!encoded || asprintf(&url, "%s%s", prefix, encoded) < 0)
		url = NULL;
	free(encoded);
	for (char *in = out = url; in && *in;) {
		if (strncmp(in, "%2F", 3) == 0) {
			*out++ = '/';
			in += 3;
		} else {
			*out++ = *in++;
		}
	}
	if (out)
		*out = '\0';
	return url;
}

static void put_path(json_t *body, const char *path)
{
	json_t *text = json_string(path);

	/* No UTF-8: the server takes only Base64 of it, but such names are not typed; said as it is, it is refused there. */
	json_object_set_new(body, "path", text ? text : json_string("?"));
}

/* ---- commands ---- */

static int cmd_state(struct ctl *ctl, const struct command *c, char **argv)
{
	return get(ctl, "/v1/state", NULL, ctl_show_state);
}

static int cmd_files(struct ctl *ctl, const struct command *c, char **argv)
{
	char *path = *argv ? archive_path(ctl, *argv) : NULL, *prefix = path ? http_percent_encode(path, strlen(path)) : NULL, *url;
	long long after = 0;
	int r = EXIT_DONE;

	do {
		json_t *json;

		if (asprintf(&url, "/v1/files?limit=1000&after=%lld&state=%s&prefix=%s", after, ctl->state ? ctl->state : "",
			     prefix ? prefix : "") < 0) {
			r = EXIT_FAILED;
			break;
		}
		r = ask(ctl, "GET", url, NULL, &json);
		free(url);
		after = json_integer_value(json_object_get(json, "next"));
		if (r == EXIT_DONE && ctl->json)	/* one file a line: lists may be long */
			for (size_t i = 0; i < json_array_size(json_object_get(json, "files")); i++) {
				json_dumpf(json_array_get(json_object_get(json, "files"), i), stdout, JSON_COMPACT);
				putchar('\n');
			}
		else if (r == EXIT_DONE)
			ctl_show_files(stdout, json_object_get(json, "files"), ctl->view);
		json_decref(json);
	} while (r == EXIT_DONE && after);
	free(path);
	free(prefix);
	return r;
}

static int cmd_file(struct ctl *ctl, const struct command *c, char **argv)
{
	char *path = archive_path(ctl, *argv), *url = path ? url_of("/v1/files/", path) : NULL;
	int r = url ? get(ctl, url, NULL, ctl_show_file) : EXIT_FAILED;

	free(path);
	free(url);
	return r;
}

static int cmd_order(struct ctl *ctl, const struct command *c, char **argv)
{
	bool available = strcmp(c->name, "available") == 0;
	char url[60];
	int worst = EXIT_DONE;

	snprintf(url, sizeof(url), "/v1/files/%s", available ? "unavailable" : c->name);
	if (strcmp(c->name, "pin") == 0)
		ctl->pin = *argv++;
	for (; *argv; argv++) {
		char *path = archive_path(ctl, *argv);
		json_t *body = json_object(), *json;
		int r;

		put_path(body, path ? path : "");
		if (ctl->copy)
			json_object_set_new(body, "copy", json_string(ctl->copy));
		if (ctl->force)
			json_object_set_new(body, "force", json_true());
		if (ctl->pin)
			json_object_set_new(body, "pin", json_real(atof(ctl->pin)));
		if (ctl->id)
			json_object_set_new(body, "request_id", json_string(ctl->id));
		if (available)
			json_object_set_new(body, "unavailable", json_false());
		r = ask(ctl, "POST", url, body, &json);
		json_decref(body);
		free(path);
		r = show(ctl, r, json, NULL, NULL);
		worst = r > worst ? r : worst;
	}
	return worst;
}

static int cmd_wait(struct ctl *ctl, const struct command *c, char **argv)
{
	char *url = NULL, *path = NULL, *encoded = NULL;
	const char *timeout = ctl->timeout ? ctl->timeout : "10";
	int n, r = EXIT_FAILED;

	if (ctl->fault && !*argv) {
		n = asprintf(&url, "/v1/wait?fault=%s&hits=%s&timeout=%s", ctl->fault, ctl->hits ? ctl->hits : "1", timeout);
	} else if (*argv && argv[1]) {
		path = archive_path(ctl, argv[0]);
		encoded = path ? http_percent_encode(path, strlen(path)) : NULL;
		n = asprintf(&url, "/v1/wait?path=%s&state=%s&timeout=%s", encoded ? encoded : "", argv[1], timeout);
	} else {
		return usage(c);
	}
	if (n >= 0)
		r = get(ctl, url, NULL, NULL);
	free(url);
	free(path);
	free(encoded);
	return r;
}

static int patch(struct ctl *ctl, const char *path, json_t *body, const char *member, void (*fn)(FILE *out, const json_t *json))
{
	json_t *json;
	int r = ask(ctl, "PATCH", path, body, &json);

	json_decref(body);
	return show(ctl, r, json, member, fn);
}

static int up_or_down(const char *word)
{
	return strcmp(word, "up") == 0 ? 1 : strcmp(word, "down") == 0 ? 0 : -1;
}

static int cmd_drives(struct ctl *ctl, const struct command *c, char **argv)
{
	return get(ctl, "/v1/drives", "drives", ctl_show_drives);
}

static int cmd_drive(struct ctl *ctl, const struct command *c, char **argv)
{
	int up = up_or_down(argv[1]), r;
	char *url = url_of("/v1/drives/", argv[0]);

	r = up < 0 ? usage(c) : !url ? EXIT_FAILED : patch(ctl, url, json_pack("{s:b}", "up", up), NULL, NULL);
	free(url);
	return r;
}

static int cmd_library(struct ctl *ctl, const struct command *c, char **argv)
{
	int up = up_or_down(argv[0]);

	return up < 0 ? usage(c) : patch(ctl, "/v1/library", json_pack("{s:b}", "up", up), NULL, NULL);
}

static int cmd_faults(struct ctl *ctl, const struct command *c, char **argv)
{
	return get(ctl, "/v1/faults", "faults", ctl_show_faults);
}

/* KEY=VALUE into the section of a rule that has this key; "corrupt.offset=5" too. */
static bool add_word(json_t *rule, const char *word)
{
	static const char match[] = " path regex op phase uid pid comm copy min_size max_size ";
	static const char when[] = " probability seed first after every from until offset length ";
	static const char whole[] = " id note ttl enabled ";
	char key[64], padded[66];
	const char *equals = strchr(word, '='), *section;
	json_t *value, *object;

	if (!equals || (size_t)(equals - word) >= sizeof(key))
		return false;
	snprintf(key, sizeof(key), "%.*s", (int)(equals - word), word);
	snprintf(padded, sizeof(padded), " %s ", key);
	value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
	if (!value || strstr(" id note path regex comm ", padded)) {
		json_decref(value);
		value = json_string(equals + 1);
	}
	if (strstr(whole, padded))
		return json_object_set_new(rule, key, value) == 0;
	section = strstr(match, padded) ? "match" : strstr(when, padded) ? "when" : "do";
	object = json_object_get(rule, section);
	if (!object) {
		object = json_object();
		json_object_set_new(rule, section, object);
	}
	if (strncmp(key, "corrupt.", 8) == 0) {
		json_t *corrupt = json_object_get(object, "corrupt");

		if (!corrupt) {
			corrupt = json_object();
			json_object_set_new(object, "corrupt", corrupt);
		}
		return json_object_set_new(corrupt, key + 8, value) == 0;
	}
	return json_object_set_new(object, key, value) == 0;
}

static json_t *read_rule(const struct command *c, char **argv)
{
	json_error_t error;
	json_t *rule;

	if (strcmp(*argv, "-") == 0 || **argv == '{') {
		rule = **argv == '-' ? json_loadf(stdin, 0, &error) : json_loads(*argv, 0, &error);
		if (!rule)
			fprintf(stderr, "mockarchive ctl: the rule is no JSON: line %d: %s\n", error.line, error.text);
		return rule;
	}
	rule = json_object();
	for (; *argv; argv++) {
		if (!add_word(rule, *argv)) {
			json_decref(rule);
			(void)usage(c);
			return NULL;
		}
	}
	return rule;
}

static int cmd_fault(struct ctl *ctl, const struct command *c, char **argv)
{
	char *url = argv[1] ? url_of("/v1/faults/", argv[1]) : NULL;
	json_t *rule, *json, *list;
	int r = EXIT_FAILED;

	if (strcmp(argv[0], "clear") == 0 && !argv[1])
		return ask(ctl, "DELETE", "/v1/faults", NULL, NULL);
	if (!url)
		return usage(c);
	if (strcmp(argv[0], "add") == 0) {
		rule = read_rule(c, argv + 1);
		r = rule ? ask(ctl, "POST", "/v1/faults", rule, &json) : EXIT_FAILED;
		json_decref(rule);
		if (r == EXIT_DONE && !ctl->json)
			puts(json_string_value(json_object_get(json, "id")));
		r = rule ? show(ctl, r, json, NULL, NULL) : r;
	} else if (argv[2]) {
		r = usage(c);
	} else if (strcmp(argv[0], "show") == 0) {
		r = ask(ctl, "GET", url, NULL, &json);
		list = json_array();
		if (r == EXIT_DONE && ctl->json)
			print_json(json);
		else if (r == EXIT_DONE && json_array_append(list, json) == 0)
			ctl_show_faults(stdout, list);
		json_decref(list);
		json_decref(json);
	} else if (strcmp(argv[0], "on") == 0 || strcmp(argv[0], "off") == 0) {
		r = patch(ctl, url, json_pack("{s:b}", "enabled", argv[0][1] == 'n'), NULL, NULL);
	} else if (strcmp(argv[0], "remove") == 0) {
		r = ask(ctl, "DELETE", url, NULL, NULL);
	} else {
		r = usage(c);
	}
	free(url);
	return r;
}

static int cmd_clock(struct ctl *ctl, const struct command *c, char **argv)
{
	if (!*argv)
		return get(ctl, "/v1/clock", NULL, ctl_show_clock);
	return patch(ctl, "/v1/clock", json_pack("{s:s}", "mode", *argv), NULL, ctl_show_clock);
}

static void show_moved(FILE *out, const json_t *json)
{
	fprintf(out, "%lld done; ", (long long)json_integer_value(json_object_get(json, "done")));
	ctl_show_clock(out, json_object_get(json, "clock"));
}

static int cmd_advance(struct ctl *ctl, const struct command *c, char **argv)
{
	json_t *body, *json;
	char *end;
	double seconds = strtod(argv[0], &end);
	int r;

	if (end == argv[0] || *end)
		return usage(c);
	body = json_pack("{s:f}", "seconds", seconds);
	r = ask(ctl, "POST", "/v1/clock/advance", body, &json);
	json_decref(body);
	return show(ctl, r, json, NULL, show_moved);
}

static int cmd_settle(struct ctl *ctl, const struct command *c, char **argv)
{
	json_t *json;
	int r = ask(ctl, "POST", "/v1/clock/settle", NULL, &json);

	if (r == EXIT_DONE && json_is_false(json_object_get(json, "settled")))
		r = EXIT_IN_VAIN;
	return show(ctl, r, json, NULL, show_moved);
}

static int cmd_settings(struct ctl *ctl, const struct command *c, char **argv)
{
	return get(ctl, "/v1/settings", "settings", ctl_show_settings);
}

static int cmd_set(struct ctl *ctl, const struct command *c, char **argv)
{
	json_t *body = json_object();

	for (; *argv; argv++) {
		char *equals = strchr(*argv, '=');

		if (!equals) {
			json_decref(body);
			return usage(c);
		}
		*equals = '\0';
		json_object_set_new(body, *argv, json_string(equals + 1));
	}
	return patch(ctl, "/v1/settings", body, NULL, NULL);
}

static int cmd_profile(struct ctl *ctl, const struct command *c, char **argv)
{
	json_t *json, *one;
	size_t i;
	int r;

	if (*argv)
		return patch(ctl, "/v1/settings", json_pack("{s:s}", "profile", *argv), NULL, NULL);
	r = ask(ctl, "GET", "/v1/profiles", NULL, &json);
	json_array_foreach(json_object_get(json, "profiles"), i, one)
		if (!ctl->json)
			printf("%-20s %s\n", json_string_value(json_object_get(one, "name")), json_string_value(json_object_get(one, "help")));
	return show(ctl, r, json, NULL, NULL);
}

static void print_line(void *arg, const char *line)
{
	struct ctl *ctl = arg;
	json_t *json;

	if (strncmp(line, "data: ", 6) != 0)
		return;
	if (ctl->json) {
		puts(line + 6);
	} else if ((json = json_loads(line + 6, 0, NULL))) {
		ctl_show_event(stdout, json);
		json_decref(json);
	}
	fflush(stdout);
}

static int cmd_journal(struct ctl *ctl, const struct command *c, char **argv)
{
	long long after = ctl->after ? atoll(ctl->after) : 0;
	size_t n;

	if (ctl->follow) {
		char url[60];

		snprintf(url, sizeof(url), ctl->after ? "/v1/events?after=%lld" : "/v1/events", after);
		return ctl_follow(ctl->client, url, print_line, ctl) < 0 ? EXIT_FAILED : EXIT_DONE;
	}
	do {
		char url[80];
		json_t *json, *events;
		int r;

		snprintf(url, sizeof(url), "/v1/journal?after=%lld", after);
		r = ask(ctl, "GET", url, NULL, &json);
		if (r != EXIT_DONE)
			return r;
		events = json_object_get(json, "events");
		n = json_array_size(events);
		for (size_t i = 0; i < n; i++) {
			if (ctl->json) {
				json_dumpf(json_array_get(events, i), stdout, JSON_COMPACT);
				putchar('\n');
			} else {
				ctl_show_event(stdout, json_array_get(events, i));
			}
		}
		after = json_integer_value(json_object_get(json, "last"));
		json_decref(json);
	} while (n);
	return EXIT_DONE;
}

static int cmd_metrics(struct ctl *ctl, const struct command *c, char **argv)
{
	char *text;
	long status;

	if (ctl_request(ctl->client, "GET", "/metrics", NULL, &status, &text) < 0)
		return EXIT_FAILED;
	fputs(text, stdout);
	free(text);
	return status == 200 ? EXIT_DONE : EXIT_FAILED;
}

static int cmd_reset(struct ctl *ctl, const struct command *c, char **argv)
{
	json_t *list = json_array(), *body;
	int r;

	for (; *argv; argv++)
		json_array_append_new(list, json_string(*argv));
	body = json_array_size(list) ? json_pack("{s:O}", "what", list) : NULL;
	r = ask(ctl, "POST", "/v1/reset", body, NULL);
	json_decref(body);
	json_decref(list);
	return r;
}

static int cmd_exit(struct ctl *ctl, const struct command *c, char **argv)
{
	return ask(ctl, "GET", "/exit", NULL, NULL);
}

static const struct command commands[] = {
	{ "state", "", "the archive at a glance", 0, 0, cmd_state },
	{ "files", "[--state S[,S]] [--as VIEW] [PATH]", "files, one a line; VIEW: plain, hsm_state, dsmls, dmattr, eos", 0, 1, cmd_files },
	{ "file", "PATH", "all that is known of one", 1, 1, cmd_file },
	{ "archive", "PATH...", "copy to tape and replica now", 1, -1, cmd_order },
	{ "release", "[--force] PATH...", "give up the disk blocks", 1, -1, cmd_order },
	{ "recall", "[--pin SECONDS] [--id ID] PATH...", "fetch from tape", 1, -1, cmd_order },
	{ "cancel", "PATH...", "take back what is under way", 1, -1, cmd_order },
	{ "evict", "PATH...", "one pin less, and released when none is left", 1, -1, cmd_order },
	{ "pin", "SECONDS PATH...", "keep on disk; 0 lets go", 2, -1, cmd_order },
	{ "lose", "[--copy tape|replica|both] PATH...", "a copy is gone", 1, -1, cmd_order },
	{ "damage", "[--copy ...] PATH...", "a copy cannot be read", 1, -1, cmd_order },
	{ "corrupt", "[--copy ...] PATH...", "a bit of a copy flips, and nobody is told", 1, -1, cmd_order },
	{ "unavailable", "PATH...", "the tape leaves the library", 1, -1, cmd_order },
	{ "available", "PATH...", "and comes back", 1, -1, cmd_order },
	{ "mend", "PATH...", "take back lose, damage, unavailable and failures", 1, -1, cmd_order },
	{ "delete", "PATH...", "the file and its copies", 1, -1, cmd_order },
	{ "wait", "[--timeout SECONDS] PATH STATE[,STATE] | --fault ID [--hits N]", "until it is so; exit status 1: in vain", 0, 2, cmd_wait },
	{ "drives", "", "the drives", 0, 0, cmd_drives },
	{ "drive", "N up|down", "one drive", 2, 2, cmd_drive },
	{ "library", "up|down", "all of it", 1, 1, cmd_library },
	{ "faults", "", "the rules, with their hits", 0, 0, cmd_faults },
	{ "fault", "add KEY=VALUE...|JSON|- | show|on|off|remove ID | clear", "change the rules", 1, -1, cmd_fault },
	{ "clock", "[real|manual|scaled:N]", "the archive's time", 0, 1, cmd_clock },
	{ "advance", "SECONDS", "move time on, and do what is due", 1, 1, cmd_advance },
	{ "settle", "", "move time on until nothing is under way", 0, 0, cmd_settle },
	{ "settings", "", "every switch", 0, 0, cmd_settings },
	{ "set", "KEY=VALUE...", "change some", 1, -1, cmd_set },
	{ "profile", "[NAME]", "list the profiles, or take one", 0, 1, cmd_profile },
	{ "journal", "[--after N] [--follow]", "what happened", 0, 0, cmd_journal },
	{ "metrics", "", "for Prometheus", 0, 0, cmd_metrics },
	{ "reset", "[faults|settings|drives|counters|journal|files|clock|all]...", "as at the start", 0, -1, cmd_reset },
	{ "exit", "", "end it", 0, 0, cmd_exit },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static int help(void)
{
	puts("usage: mockarchive ctl [--url URL | --mount DIR] [--json] COMMAND ...\n\n"
	     "Without --url ($MOCKARCHIVE_URL) it talks to the mockarchive that runs here with --http.\n");
	for (size_t i = 0; i < NCOMMANDS; i++)
		printf("  %s %s\n      %s\n", commands[i].name, commands[i].args, commands[i].help);
	puts("\nExit status: 0 done, 1 waited in vain, 2 could not.");
	return EXIT_DONE;
}

/* Takes options out of argv, wherever they stand; "--" ends them. False: said why. */
static bool read_options(struct ctl *ctl, int *argc, char **argv, const char **ret_url, const char **ret_mount)
{
	const struct { const char *name; const char **value; bool *flag; } options[] = {
		{ "--url", ret_url, NULL }, { "--mount", ret_mount, NULL }, { "--json", NULL, &ctl->json }, { "--copy", &ctl->copy, NULL },
		{ "--state", &ctl->state, NULL }, { "--timeout", &ctl->timeout, NULL }, { "--fault", &ctl->fault, NULL },
		{ "--hits", &ctl->hits, NULL }, { "--pin", &ctl->pin, NULL }, { "--id", &ctl->id, NULL }, { "--after", &ctl->after, NULL },
		{ "--force", NULL, &ctl->force }, { "--follow", NULL, &ctl->follow },
	};
	int out = 1;

	for (int i = 1; i < *argc; i++) {
		size_t o = 0;

		if (strncmp(argv[i], "--", 2) != 0) {
			argv[out++] = argv[i];
			continue;
		}
		if (!argv[i][2]) {
			while (++i < *argc)
				argv[out++] = argv[i];
			break;
		}
		while (o < sizeof(options) / sizeof(options[0]) && strcmp(options[o].name, argv[i]) != 0)
			o++;
		if (strcmp(argv[i], "--as") == 0 && i + 1 < *argc && ctl_view_parse(argv[i + 1], &ctl->view)) {
			i++;
		} else if (o == sizeof(options) / sizeof(options[0]) || (options[o].value && i + 1 >= *argc)) {
			fprintf(stderr, "mockarchive ctl: unknown option '%s', or its value is missing: see mockarchive ctl --help\n", argv[i]);
			return false;
		} else if (options[o].value) {
			*options[o].value = argv[++i];
		} else {
			*options[o].flag = true;
		}
	}
	argv[out] = NULL;
	*argc = out;
	return true;
}

int ctl_main(int argc, char **argv)
{
	struct ctl ctl = { 0 };
	const char *url = NULL, *mount = NULL;
	const struct command *c = NULL;
	int r;

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || (i == 1 && strcmp(argv[i], "help") == 0))
			return help();
	if (!read_options(&ctl, &argc, argv, &url, &mount))
		return EXIT_FAILED;
	for (size_t i = 0; argc > 1 && i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, argv[1]) == 0)
			c = &commands[i];
	if (!c) {
		fprintf(stderr, argc > 1 ? "mockarchive ctl: unknown command '%s': see mockarchive ctl --help\n" :
			"mockarchive ctl: which command? see mockarchive ctl --help%s\n", argc > 1 ? argv[1] : "");
		return EXIT_FAILED;
	}
	if (argc - 2 < c->min || (c->max >= 0 && argc - 2 > c->max))
		return usage(c);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	r = ctl_client_open(url, mount, &ctl.client) < 0 ? EXIT_FAILED : c->fn(&ctl, c, argv + 2);
	ctl_client_close(ctl.client);
	free(ctl.mountpoint);
	curl_global_cleanup();
	return r;
}
