#include "lockstore/wormctl/serve_page.h"

#include "lockstore/embed.h"

EMBED(serve_page, "lockstore/wormctl/web/index.html");
EMBED(serve_script, "lockstore/wormctl/web/app.js");
EMBED(serve_style, "lockstore/wormctl/web/style.css");
