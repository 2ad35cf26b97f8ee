/* libcurl, over TCP or a UNIX socket. The instance is asked for its mountpoint only where there is a choice. */
#include "mockarchive/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <curl/curl.h>

#include "mockarchive/serve.h"

#define ANSWER_MAX_BYTES (256u << 20)
#define INSTANCES_MAX 64

struct ctl_client {
	CURL *curl;
	char *base, *socket;	/* "http://host:port"; socket: NULL over TCP */
};

struct buffer {
	char *text;
	size_t len;
};

static size_t collect(char *data, size_t size, size_t n, void *arg)
{
	struct buffer *b = arg;
	char *text;

	if (b->len + size * n > ANSWER_MAX_BYTES || !(text = realloc(b->text, b->len + size * n + 1)))
		return 0;
	memcpy(text + b->len, data, size * n);
	b->text = text;
	b->len += size * n;
	text[b->len] = '\0';
	return size * n;
}

static int client_new(const char *url, const char *socket, struct ctl_client **ret_client)
{
	struct ctl_client *c = calloc(1, sizeof(*c));
	size_t len = strlen(url);

	while (len && url[len - 1] == '/')
		len--;
	if (!c)
		return -ENOMEM;
	c->curl = curl_easy_init();
	c->base = strndup(url, len);
	c->socket = socket ? strdup(socket) : NULL;
	if (!c->curl || !c->base || (socket && !c->socket)) {
		ctl_client_close(c);
		return -ENOMEM;
	}
	*ret_client = c;
	return 0;
}

void ctl_client_close(struct ctl_client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	free(c->base);
	free(c->socket);
	free(c);
}

static struct curl_slist *prepare(struct ctl_client *c, const char *method, const char *path, char **ret_url)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json"), *more;
	const char *token = getenv("MOCKARCHIVE_TOKEN");
	char line[600];

	if (asprintf(ret_url, "%s%s", c->base, path) < 0)
		*ret_url = NULL;
	if (token && *token && headers) {
		snprintf(line, sizeof(line), "Authorization: Bearer %.500s", token);
		more = curl_slist_append(headers, line);
		headers = more ? more : headers;
	}
	curl_easy_reset(c->curl);
	curl_easy_setopt(c->curl, CURLOPT_URL, *ret_url);
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->curl, CURLOPT_PROXY, "");		/* it is on this machine, or a name that was given */
	curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	if (c->socket)
		curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
	return headers;
}

static int run(struct ctl_client *c)
{
	CURLcode code = curl_easy_perform(c->curl);

	if (code == CURLE_OK)
		return 0;
	fprintf(stderr, "mockarchive ctl: cannot reach '%s': %s\n", c->socket ? c->socket : c->base, curl_easy_strerror(code));
	return code == CURLE_COULDNT_CONNECT ? -ECONNREFUSED : -EIO;
}

int ctl_request(struct ctl_client *c, const char *method, const char *path, const json_t *body, long *ret_status, char **ret_text)
{
	struct buffer b = { 0 };
	char *url = NULL, *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct curl_slist *headers = prepare(c, method, path, &url);
	int r;

	if (text)
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text);
	else if (strcmp(method, "POST") == 0)
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, "");
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &b);
	r = run(c);
	if (r == 0)
		curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, ret_status);
	curl_slist_free_all(headers);
	free(url);
	free(text);
	if (r == 0 && !b.text)
		b.text = strdup("");
	if (r == 0 && b.text)
		*ret_text = b.text;
	else
		free(b.text);
	return r == 0 && !b.text ? -ENOMEM : r;
}

struct lines {
	struct buffer b;
	void (*line)(void *arg, const char *text);
	void *arg;
};

static size_t split(char *data, size_t size, size_t n, void *arg)
{
	struct lines *lines = arg;
	char *newline;

	if (collect(data, size, n, &lines->b) != size * n)
		return 0;
	while ((newline = memchr(lines->b.text, '\n', lines->b.len))) {
		size_t len = (size_t)(newline - lines->b.text) + 1;

		*newline = '\0';
		lines->line(lines->arg, lines->b.text);
		lines->b.len -= len;
		memmove(lines->b.text, newline + 1, lines->b.len);
	}
	return size * n;
}

int ctl_follow(struct ctl_client *c, const char *path, void (*line)(void *arg, const char *text), void *arg)
{
	struct lines lines = { .line = line, .arg = arg };
	char *url = NULL;
	struct curl_slist *headers = prepare(c, "GET", path, &url);
	int r;

	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, split);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &lines);
	r = run(c);
	curl_slist_free_all(headers);
	free(url);
	free(lines.b.text);
	return r;
}

/* ---- which instance ---- */

static bool answers(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes;

	if (fd < 0 || strlen(path) >= sizeof(addr.sun_path)) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	strcpy(addr.sun_path, path);
	yes = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
	close(fd);
	return yes;
}

static char *mountpoint_of(const char *socket)
{
	struct ctl_client *c;
	char *text = NULL, *mount = NULL;
	json_t *json = NULL;
	long status = 0;

	if (client_new("http://localhost", socket, &c) < 0)
		return NULL;
	if (ctl_request(c, "GET", "/v1/state", NULL, &status, &text) == 0 && status == 200)
		json = json_loads(text, 0, NULL);
	if (json_is_string(json_object_get(json, "mountpoint")))
		mount = strdup(json_string_value(json_object_get(json, "mountpoint")));
	json_decref(json);
	free(text);
	ctl_client_close(c);
	return mount;
}

static int find_socket(const char *mount, char *ret_path, size_t len_bytes)
{
	char dir[SERVE_RUN_DIR_BYTES], path[SERVE_RUN_DIR_BYTES + 256], wanted[PATH_MAX] = "";
	unsigned found = 0, tried = 0;
	struct dirent *entry;
	char *mounts[INSTANCES_MAX];
	DIR *list;

	if (mount && !realpath(mount, wanted))
		snprintf(wanted, sizeof(wanted), "%s", mount);
	list = serve_run_dir(false, dir) == 0 ? opendir(dir) : NULL;
	while (list && (entry = readdir(list)) && tried < INSTANCES_MAX) {
		size_t len = strlen(entry->d_name);

		if (len < 6 || strcmp(entry->d_name + len - 5, ".sock") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (!answers(path))
			continue;
		mounts[tried] = mountpoint_of(path);
		if (!mount || (mounts[tried] && strcmp(mounts[tried], wanted) == 0)) {
			snprintf(ret_path, len_bytes, "%s", path);
			found++;
		}
		tried++;
	}
	if (list)
		closedir(list);
	if (found == 0)
		fprintf(stderr, mount ? "mockarchive ctl: no mockarchive with --http serves '%s'\n" :
			"mockarchive ctl: no mockarchive runs here with --http%s; or say --url http://HOST:PORT\n", mount ? wanted : "");
	if (found > 1) {
		fprintf(stderr, "mockarchive ctl: several run here, say which with --mount DIR:");
		for (unsigned i = 0; i < tried; i++)
			fprintf(stderr, " %s", mounts[i] ? mounts[i] : "?");
		fputc('\n', stderr);
	}
	while (tried)
		free(mounts[--tried]);
	return found == 1 ? 0 : -ENOENT;
}

int ctl_client_open(const char *url, const char *mount, struct ctl_client **ret_client)
{
	char socket[SERVE_RUN_DIR_BYTES + 256];
	int r;

	if (!url && !mount)
		url = getenv("MOCKARCHIVE_URL");
	if (!url || !*url) {
		r = find_socket(mount, socket, sizeof(socket));
		return r < 0 ? r : client_new("http://localhost", socket, ret_client);
	}
	if (strncmp(url, "unix:", 5) == 0)
		return client_new("http://localhost", url + 5, ret_client);
	return client_new(url, NULL, ret_client);
}
