// Takes CloudEvents by HTTP POST, one or a batch, and has the project's own SDK parse and validate them. Prints its port, then a
// line of JSON for each event as the SDK has understood it, or {"error": ...} for a request that it refuses.
const http = require('http');
const { HTTP } = require('cloudevents');

const server = http.createServer((request, response) => {
	const parts = [];

	request.on('data', (part) => parts.push(part));
	request.on('end', () => {
		let lines;

		try {
			const got = HTTP.toEvent({ headers: request.headers, body: Buffer.concat(parts).toString('utf8') });
			const events = Array.isArray(got) ? got : [got];

			events.forEach((event) => event.validate());
			lines = events.map((event) => event.toJSON());
		} catch (error) {
			lines = [{ error: String(error), body: Buffer.concat(parts).toString('utf8') }];
		}
		process.stdout.write(lines.map((line) => JSON.stringify(line) + '\n').join(''));
		response.writeHead(204).end();
	});
});

server.listen(0, '127.0.0.1', () => process.stdout.write(server.address().port + '\n'));
