#include "mockarchive/web.h"

#include "lockstore/embed.h"

EMBED(web_page, "mockarchive/web/index.html");
EMBED(web_script, "mockarchive/web/app.js");
EMBED(web_style, "mockarchive/web/style.css");
EMBED(web_openapi, "mockarchive/web/openapi.json");
