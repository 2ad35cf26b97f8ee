/* The data path: what gfal2 and curl need of WebDAV to look at a file, fetch it, and store one. Everything that is no name of
 * ours is a path of the mount. Reads go to the archive, which never waits; a file that is on tape is a 503, and on its way. */
#include "mockarchive/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "mockarchive/http_url.h"

#define DAV_LIST_MAX 10000		/* entries of one PROPFIND */
#define DAV_SPOILED_MAX_BYTES (64 << 20)	/* of a file whose reply is slowed down */
#define DAV_CHUNK_BYTES (256 << 10)

#define CAN (FAULT_DO_DELAY | FAULT_DO_HANG | FAULT_DO_HTTP_STATUS | FAULT_DO_REST | FAULT_DO_CORRUPT | FAULT_DO_RATE)

static bool misbehave(struct api_call *call, enum fault_point point, const char *path, int64_t size_bytes, struct fault_verdict *v)
{
	struct fault_query query = { .point = point, .can = CAN, .path = path, .size_bytes = size_bytes,
				     .now_ns = archive_now_ns(call->api->archive) };

	if (point != FAULT_DAV_GET)
		query.can &= ~(FAULT_DO_CORRUPT | FAULT_DO_RATE);
	faults_ask(archive_faults(call->api->archive), &query, v);
	call->delay_ns = v->delay_ns;
	call->hang_number = v->did & FAULT_DO_HANG ? v->hang_number : 0;
	call->rate_bytes_s = v->rate_bytes_s;
	if (v->did & FAULT_DO_HTTP_STATUS) {
		api_problem(call, (unsigned)v->http_status, NULL, "fault '%s'", v->fired[0]);
		return true;
	}
	call->drop = v->did & FAULT_DO_REST && v->rest == FAULT_REST_DROP;
	return call->drop;
}

static bool clean(struct api_call *call, char path[API_PATH_MAX_BYTES])
{
	if (api_clean_path(call->rest, call->rest_len, path) == 0)
		return true;
	api_problem(call, 400, NULL, "'%.200s' is no path of the mount", call->rest);
	return false;
}

/* ---- GET and HEAD ---- */

struct source {
	struct archive *archive;
	char path[API_PATH_MAX_BYTES];
	uint64_t start;
	struct fault_corrupt corrupt;
};

static ssize_t read_source(void *owner, uint64_t offset, char *buf, size_t len)
{
	struct source *s = owner;
	ssize_t n = archive_pread(s->archive, s->path, buf, len, (off_t)(s->start + offset));

	if (n > 0)
		fault_corrupt_bytes(&s->corrupt, (int64_t)(s->start + offset), buf, (size_t)n);
	return n;
}

struct sums {
	bool has;
	bool online;
	enum archive_state state;
	uint32_t adler32;
};

static int take_sums(void *arg, const struct archive_file *file)
{
	struct sums *sums = arg;

	*sums = (struct sums){ .has = file->has_checksum, .online = archive_state_is_online(file->state), .state = file->state,
			       .adler32 = file->adler32 };
	return 0;
}

/* RFC 3230, as gfal-copy and gfal-sum ask for it. */
static void put_digest(struct api_call *call, struct source *source, const struct sums *sums)
{
	const char *want = call->header(call, "Want-Digest");
	uint32_t adler = sums->adler32;
	char text[40];

	if (!want || !strcasestr(want, "adler32"))
		return;
	if (!sums->has) {
		unsigned char *chunk = malloc(DAV_CHUNK_BYTES);
		uint64_t at = 0;
		ssize_t n = -ENOMEM;

		adler = (uint32_t)adler32(0, NULL, 0);
		while (chunk && (n = archive_pread(source->archive, source->path, chunk, DAV_CHUNK_BYTES, (off_t)at)) > 0) {
			adler = (uint32_t)adler32(adler, chunk, (unsigned)n);
			at += (uint64_t)n;
		}
		free(chunk);
		if (n < 0)
			return;		/* cannot be read now: no checksum, as servers do that have none */
	}
	snprintf(text, sizeof(text), "adler32=%08x", adler);
	api_header(call, "Digest", text);
}

static void http_date(time_t when, char buf[40])
{
	struct tm tm;

	gmtime_r(&when, &tm);
	strftime(buf, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm);	/* the locale is C */
}

static void make_etag(const struct stat *st, char buf[64])
{
	snprintf(buf, 64, "\"%llx-%llx-%llx\"", (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
		 (unsigned long long)st->st_mtim.tv_sec * 1000000000ull + (unsigned long long)st->st_mtim.tv_nsec);
}

/* One range; several, or something else than bytes, are answered with the whole file, as RFC 9110 allows. -ERANGE: beyond the end. */
static int read_range(const char *text, uint64_t size, uint64_t *ret_start, uint64_t *ret_len)
{
	unsigned long long first, last;
	char *end;

	if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ','))
		return 0;
	text += 6;
	if (*text == '-') {
		last = strtoull(text + 1, &end, 10);
		if (*end || end == text + 1)
			return 0;
		if (last == 0 || size == 0)
			return -ERANGE;
		*ret_start = last < size ? size - last : 0;
		*ret_len = size - *ret_start;
		return 1;
	}
	if (*text < '0' || *text > '9')
		return 0;
	first = strtoull(text, &end, 10);
	if (*end++ != '-')
		return 0;
	last = *end ? strtoull(end, &end, 10) : UINT64_MAX;
	if (*end || last < first)
		return 0;
	if (first >= size)
		return -ERANGE;
	*ret_start = first;
	*ret_len = (last < size ? last + 1 : size) - first;
	return 1;
}

static void refuse_read(struct api_call *call, int error, const char *path)
{
	struct sums sums = { .online = true };

	(void)archive_find(call->api->archive, path, take_sums, &sums);	/* gone meanwhile: `error` says so */
	if (sums.online || sums.state == ARCHIVE_LOST || sums.state == ARCHIVE_DAMAGED) {
		api_error(call, error, "read", path);
		return;
	}
	api_header(call, "Retry-After", "1");
	api_problem(call, 503, NULL, "'/%.300s' is %s", path, archive_state_name(sums.state));
}

static int add_link(void *arg, const char *name, const struct stat *st)
{
	FILE *out = arg;
	char *encoded = http_percent_encode(name, strlen(name));

	if (encoded)
		fprintf(out, "%s%s\n", encoded, S_ISDIR(st->st_mode) ? "/" : "");
	free(encoded);
	return 0;
}

static void list_directory(struct api_call *call, const char *path)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int r;

	if (!out) {
		api_error(call, -ENOMEM, "list", path);
		return;
	}
	r = archive_readdir(call->api->archive, path, add_link, out);
	if (fclose(out) != 0 || r < 0) {
		free(text);
		api_error(call, r < 0 ? r : -ENOMEM, "list", path);
		return;
	}
	api_text(call, 200, "text/plain; charset=utf-8", text, len);
}

/* A reply that shall be slow is in memory: pieces and pauses are made of that. */
static void read_whole(struct api_call *call, struct source *source, uint64_t len)
{
	char *text = len <= DAV_SPOILED_MAX_BYTES ? malloc(len + 1) : NULL;
	uint64_t at = 0;

	if (!text) {
		api_error(call, -EFBIG, "slow down", source->path);
		return;
	}
	while (at < len) {
		ssize_t n = read_source(source, at, text + at, len - at);

		if (n <= 0) {
			free(text);
			refuse_read(call, n < 0 ? (int)n : -EIO, source->path);
			return;
		}
		at += (uint64_t)n;
	}
	api_text(call, call->status, "application/octet-stream", text, len);
}

void dav_get(struct api_call *call)
{
	bool head = strcmp(call->method, "HEAD") == 0;
	char path[API_PATH_MAX_BYTES], text[100], etag[64], date[40], byte;
	struct fault_verdict v;
	struct sums sums = { 0 };
	struct source *source;
	uint64_t start = 0, len;
	struct stat st;
	int r, ranged;

	if (!clean(call, path))
		return;
	r = archive_stat(call->api->archive, path, &st);
	if (misbehave(call, head ? FAULT_DAV_HEAD : FAULT_DAV_GET, path, r == 0 ? st.st_size : -1, &v))
		return;
	if (r < 0) {
		api_error(call, r, "read", path);
		return;
	}
	if (S_ISDIR(st.st_mode)) {
		list_directory(call, path);
		return;
	}
	source = calloc(1, sizeof(*source));
	if (!source) {
		api_error(call, -ENOMEM, "read", path);
		return;
	}
	source->archive = call->api->archive;
	strcpy(source->path, path);
	source->corrupt = v.corrupt;
	len = (uint64_t)st.st_size;
	make_etag(&st, etag);
	http_date(st.st_mtim.tv_sec, date);
	api_header(call, "ETag", etag);
	api_header(call, "Last-Modified", date);
	api_header(call, "Accept-Ranges", "bytes");
	(void)archive_find(source->archive, path, take_sums, &sums);	/* not found: no regular file, no checksum */
	put_digest(call, source, &sums);
	call->status = 200;
	ranged = head ? 0 : read_range(call->header(call, "Range"), len, &start, &len);
	if (ranged < 0) {
		snprintf(text, sizeof(text), "bytes */%llu", (unsigned long long)st.st_size);
		api_header(call, "Content-Range", text);
		api_problem(call, 416, NULL, "'/%.300s' has %llu bytes", path, (unsigned long long)st.st_size);
		goto out;
	}
	if (ranged) {
		call->status = 206;
		snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)start, (unsigned long long)(start + len - 1),
			 (unsigned long long)st.st_size);
		api_header(call, "Content-Range", text);
		source->start = start;
	}
	/* The first byte decides between 200 and an error, before the status is out. */
	if (!head && len) {
		ssize_t n = archive_pread(source->archive, path, &byte, 1, (off_t)start);

		if (n <= 0) {
			refuse_read(call, n < 0 ? (int)n : -EIO, path);
			goto out;
		}
	}
	if (!head && call->rate_bytes_s) {
		read_whole(call, source, len);
		goto out;
	}
	api_stream(call, call->status, "application/octet-stream", len, read_source, free, source);
	return;
out:
	free(source);
}

/* ---- PROPFIND ---- */

static void put_href(FILE *out, const char *path, const char *name, bool directory)
{
	bool first = true;

	fputc('/', out);
	for (const char *part = path; *part; part += strcspn(part, "/"), part += *part == '/') {
		char *encoded = http_percent_encode(part, strcspn(part, "/"));

		fprintf(out, "%s%s", first ? "" : "/", encoded ? encoded : "");
		first = false;
		free(encoded);
	}
	if (name) {
		char *encoded = http_percent_encode(name, strlen(name));

		fprintf(out, "%s%s", first ? "" : "/", encoded ? encoded : "");
		free(encoded);
	}
	if (directory && (name || !first))
		fputc('/', out);
}

static void put_response(FILE *out, const char *path, const char *name, const struct stat *st)
{
	bool directory = S_ISDIR(st->st_mode);
	char date[40], etag[64];

	http_date(st->st_mtim.tv_sec, date);
	make_etag(st, etag);
	fputs("<D:response><D:href>", out);
	put_href(out, path, name, directory);
	fprintf(out, "</D:href><D:propstat><D:prop><D:resourcetype>%s</D:resourcetype><D:getlastmodified>%s</D:getlastmodified>",
		directory ? "<D:collection/>" : "", date);
	if (!directory)
		fprintf(out, "<D:getcontentlength>%lld</D:getcontentlength><D:getetag>%s</D:getetag>", (long long)st->st_size, etag);
	fprintf(out, "<M:mode xmlns:M=\"LCGDM:\">%o</M:mode></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>",
		st->st_mode);
}

struct listing {
	FILE *out;
	const char *path;
	unsigned n;
};

static int add_response(void *arg, const char *name, const struct stat *st)
{
	struct listing *listing = arg;

	if (++listing->n > DAV_LIST_MAX)
		return -EOVERFLOW;
	put_response(listing->out, listing->path, name, st);
	return 0;
}

/* Whatever properties are asked for, all that there are are told. */
void dav_propfind(struct api_call *call)
{
	const char *depth = call->header(call, "Depth");
	char path[API_PATH_MAX_BYTES], *text = NULL;
	struct listing listing = { .path = path };
	struct fault_verdict v;
	struct stat st;
	size_t len = 0;
	int r;

	if (!clean(call, path))
		return;
	r = archive_stat(call->api->archive, path, &st);
	if (misbehave(call, FAULT_DAV_PROPFIND, path, r == 0 ? st.st_size : -1, &v))
		return;
	if (r < 0) {
		api_error(call, r, "show", path);
		return;
	}
	if (depth && strcmp(depth, "0") != 0 && strcmp(depth, "1") != 0) {
		api_problem(call, 403, NULL, "Depth must be 0 or 1");
		return;
	}
	listing.out = open_memstream(&text, &len);
	if (!listing.out) {
		api_error(call, -ENOMEM, "show", path);
		return;
	}
	fputs("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">", listing.out);
	put_response(listing.out, path, NULL, &st);
	if (S_ISDIR(st.st_mode) && depth && *depth == '1')
		r = archive_readdir(call->api->archive, path, add_response, &listing);
	fputs("</D:multistatus>\n", listing.out);
	if (fclose(listing.out) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0) {
		free(text);
		api_error(call, r, "list", path);
		return;
	}
	api_text(call, 207, "application/xml; charset=utf-8", text, len);
}

void dav_options(struct api_call *call)
{
	api_header(call, "DAV", "1");
	api_header(call, "Allow", "GET, HEAD, PUT, PROPFIND, OPTIONS");
	api_empty(call, 200);
}

/* ---- PUT ---- */

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int write_body(const struct api_call *call, int fd)
{
	char *chunk;
	uint64_t at = 0;
	ssize_t n = 0;
	int r = 0;

	if (!call->body_in_file)
		return write_all(fd, call->body, call->body_len);
	chunk = malloc(DAV_CHUNK_BYTES);
	if (!chunk)
		return -ENOMEM;
	while (r == 0 && at < call->body_file_len) {
		n = pread(call->body_fd, chunk, DAV_CHUNK_BYTES, (off_t)at);
		if (n <= 0) {
			r = n < 0 ? -errno : -EIO;
		} else {
			r = write_all(fd, chunk, (size_t)n);
			at += (uint64_t)n;
		}
	}
	free(chunk);
	return r;
}

/* Through the mount, as any program would: what happens at the last close is the filesystem's. A thread of its own may wait here. */
void dav_put(struct api_call *call)
{
	uint64_t len = call->body_in_file ? call->body_file_len : call->body_len;
	char path[API_PATH_MAX_BYTES], *full = NULL;
	struct fault_verdict v;
	int fd, r;
	bool fresh;

	if (!clean(call, path) || misbehave(call, FAULT_DAV_PUT, path, (int64_t)len, &v))
		return;
	if (call->body_in_file && call->body_fd < 0) {
		api_error(call, call->body_fd, "write", path);
		return;
	}
	if (asprintf(&full, "%s/%s", archive_mountpoint(call->api->archive), path) < 0) {
		api_error(call, -ENOMEM, "write", path);
		return;
	}
	fresh = access(full, F_OK) < 0;
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : write_body(call, fd);
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	free(full);
	if (r < 0)
		api_error(call, r, "write", path);
	else
		api_empty(call, fresh ? 201 : 204);
}
