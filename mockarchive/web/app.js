'use strict';

const $ = id => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get('token');
const JOURNAL_ROWS = 200, FILE_ROWS = 200;
let lastSeq = 0, state = null, refreshing = false, again = false, timer = null, knownStates = [];

// What the button "switch on" makes of a name; docs/mockarchive.md has them all.
const RECIPES = {
  'read: I/O error': { match: { op: ['open', 'read'] }, do: { errno: 'EIO' } },
  'read: I/O error, 3 times': { match: { op: ['open', 'read'] }, when: { first: 3 }, do: { errno: 'EIO' } },
  'read: hangs': { match: { op: 'read' }, do: { hang: 'killable' } },
  'write: no space': { match: { op: 'write' }, do: { errno: 'ENOSPC' } },
  'delete: refused': { match: { op: 'unlink' }, do: { errno: 'EBUSY' } },
  'recall: 1 h more': { match: { phase: 'recall.mount' }, do: { delay: 3600 } },
  'recall: fails': { match: { phase: 'recall.copy' }, do: { errno: 'EIO' } },
  'recall: hangs': { match: { phase: 'recall.copy' }, do: { hang: 'killable' } },
  'recall: a bit flips': { match: { phase: 'recall.copy' }, do: { corrupt: 'flip' } },
  'archive: fails': { match: { phase: 'archive.copy' }, do: { errno: 'EIO' } },
  'archive: the copy is lost': { match: { phase: 'archive.verify' }, do: { lose: true } },
  'archive: no replica': { match: { phase: 'archive.copy' }, do: { replica: 'skip' } },
  'flag: never set': { match: { phase: 'archive.flag' }, do: { flag: 'never-set' } },
  'flag: never cleared': { match: { phase: 'recall.flag' }, do: { flag: 'never-cleared' } },
  'tape REST: 503': { match: { op: 'rest.*' }, do: { http_status: 503 } },
};

function node(name, attributes, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value);
    else if (key === 'class') e.className = value;
    else e.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) e.append(child);
  return e;
}

// A list that has not changed is left alone: who is about to press a button in it still can.
function fill(id, nodes, key) {
  const text = JSON.stringify(key);
  if ($(id).dataset.key === text) return;
  $(id).dataset.key = text;
  $(id).replaceChildren(...nodes());
}

function say(text) {
  $('message').textContent = text || '';
  $('message').hidden = !text;
}

async function ask(method, path, body) {
  const headers = { 'Content-Type': 'application/json' };
  if (token) headers.Authorization = 'Bearer ' + token;
  const reply = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await reply.text();
  const json = text ? JSON.parse(text) : null;
  if (!reply.ok) throw new Error(json && json.detail ? json.detail : method + ' ' + path + ': ' + reply.status);
  return json;
}

async function act(method, path, body) {
  try {
    await ask(method, path, body);
    say('');
  } catch (e) {
    say(e.message);
  }
  refresh();
}

const date = s => new Date(s * 1000).toISOString().replace('T', ' ').slice(0, 19);
const time = s => new Date(s * 1000).toISOString().slice(11, 23);

function span(s) {
  if (s < 1) return Math.max(0, s).toFixed(2) + ' s';
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const parts = [];
  for (const [name, size] of units) {
    if (s >= size && parts.length < 2) parts.push(Math.floor(s / size) + ' ' + name);
    s %= size;
  }
  return parts.join(' ');
}

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return (unit ? n.toFixed(1) : n) + ' ' + units[unit];
}

function showClock(clock) {
  $('now').textContent = date(clock.now);
  for (const button of document.querySelectorAll('[data-mode]'))
    button.setAttribute('aria-pressed', String(button.dataset.mode.split(':')[0] === clock.mode));
  $('due').textContent = clock.next_due === null ? 'nothing is due' :
    clock.events + ' due, the next in ' + span(clock.next_due - clock.now);
}

function showState(s) {
  $('mountpoint').textContent = s.mountpoint;
  $('version').textContent = 'version ' + s.version;
  showClock(s.clock);
  $('files-total').textContent = s.files_total;
  const states = Object.entries(s.files);
  fill('bar', () => states.filter(([, n]) => n).map(([name, n]) => {
    const part = node('span', { class: 's-' + name, title: name + ' ' + n });
    part.style.flexGrow = n;
    part.style.background = 'currentColor';
    return part;
  }), states);
  fill('states', () => states.map(([name, n]) => node('li', { class: n ? '' : 'none', 'data-state': name },
    node('span', { class: 'chip s-' + name }), node('b', {}, String(n)), name)), states);
  if (knownStates.length === 0) {
    knownStates = states.map(([name]) => name);
    $('filter-state').append(...knownStates.map(name => node('option', { value: name }, name)));
  }
  $('bytes').textContent = bytes(s.bytes.online) + ' on disk, ' + bytes(s.bytes.tape) + ' on tape; ' + bytes(s.space.free) + ' of ' +
    bytes(s.space.total) + ' free' + (s.cache ? '; disk cache ' + bytes(s.cache.used) + ' of ' + bytes(s.cache.size) : '');
  $('library').setAttribute('aria-checked', String(s.library.up));
  $('library').textContent = s.library.up ? 'library up' : 'library down';
  fill('drives', () => s.drives.map(d => node('li', { 'data-drive': d.number },
    node('button', { class: 'switch', role: 'switch', 'aria-checked': String(d.up), 'aria-label': 'drive ' + d.number,
      onclick: () => act('PATCH', '/v1/drives/' + d.number, { up: !d.up }) }, 'drive ' + d.number + (d.up ? '' : ' down')),
    node('span', { class: 'grow' }, d.doing === 'idle' ? node('span', { class: 'empty' }, 'idle') :
      node('span', { class: 's-' + d.doing }, d.doing + ' ', node('code', {}, d.path || ''))),
    node('span', { class: 'sub' }, (d.tape || 'no tape') + ', ' + d.jobs + ' jobs'))), s.drives);
  $('queue').textContent = 'queue: ' + s.queue.archive + ' to tape, ' + s.queue.recall + ' from tape; ' + s.queue.waiting + ' callers wait';
  $('faults-count').textContent = s.faults.enabled + ' on, fired ' + s.faults.fired + ' times';
}

function showFaults(list) {
  const short = o => JSON.stringify(o).slice(1, -1).replaceAll('"', '').replaceAll(',', ', ').replaceAll(':', ': ');
  fill('faults', () => list.length ? list.map(f => node('li', { 'data-fault': f.id },
    node('button', { class: 'switch', role: 'switch', 'aria-checked': String(f.enabled), 'aria-label': 'fault ' + f.id,
      onclick: () => act('PATCH', '/v1/faults/' + f.id, { enabled: !f.enabled }) }, f.enabled ? 'on' : 'off'),
    node('span', { class: 'grow' }, f.id), node('span', { class: 'count' }, f.hits + ' hits'),
    node('button', { class: 'small quiet', 'aria-label': 'remove ' + f.id, onclick: () => act('DELETE', '/v1/faults/' + f.id) }, 'remove'),
    node('small', {}, [short(f.match), short(f.when), '→ ' + short(f.do)].filter(Boolean).join(' · ')))) :
    [node('li', { class: 'empty' }, 'none: everything works')], list);
}

function showFiles(answer) {
  const run = (order, f) => () => act('POST', '/v1/files/' + order, f.path_b64 ? { path_b64: f.path_b64 } : { path: f.path });
  fill('files', () => answer.files.length ? answer.files.map(f => node('tr', { 'data-path': f.path },
    node('td', { class: 'wrap' }, f.path), node('td', { class: 's-' + f.state, title: f.error ? f.error.text : '' }, f.state),
    node('td', { class: 'n' }, bytes(f.size)), node('td', {}, f.copies.tape), node('td', {}, f.copies.replica),
    node('td', {}, [f.flag.final ? 'final' : '', f.flag.replica ? 'replica' : ''].filter(Boolean).join(', ') || '–'),
    node('td', {},
      ['archiving', 'recalling'].includes(f.state) ? node('button', { class: 'small', onclick: run('cancel', f) }, 'cancel') :
      f.state === 'dual' ? node('button', { class: 'small', onclick: run('release', f) }, 'release') :
      ['resident', 'failed-archive'].includes(f.state) ? node('button', { class: 'small', onclick: run('archive', f) }, 'archive') :
      ['released', 'partial', 'failed-recall'].includes(f.state) ? node('button', { class: 'small', onclick: run('recall', f) }, 'recall') : null,
      ' ',
      ['lost', 'damaged', 'unavailable', 'failed-archive', 'failed-recall'].includes(f.state) ?
        node('button', { class: 'small', onclick: run('mend', f) }, 'mend') :
        f.copies.tape === 'good' ? node('button', { class: 'small quiet', onclick: run('lose', f) }, 'lose') : null))) :
    [node('tr', {}, node('td', { class: 'empty', colspan: 7 }, 'no such files'))], answer);
  $('more').hidden = answer.next === null;
  $('more').textContent = 'the first ' + FILE_ROWS + '; choose a state or a directory to see others';
}

function addEvents(events) {
  const rows = [];
  for (const e of events) {
    if (e.seq <= lastSeq) continue;
    lastSeq = e.seq;
    const what = e.from ? [node('span', { class: 's-' + e.from }, e.from), ' → ', node('span', { class: 's-' + e.to }, e.to)] :
      [node('span', { class: e.kind === 'fault' ? 'fault' : '' }, [e.kind, e.fault, e.detail].filter(Boolean).join(' '))];
    rows.unshift(node('tr', { 'data-seq': e.seq, 'data-kind': e.kind }, node('td', {}, time(e.time)), node('td', {}, ...what),
      node('td', { class: 'wrap' }, [e.path, e.errno].filter(Boolean).join(' '))));
  }
  if (rows.length === 0) return;
  $('journal').prepend(...rows);
  while ($('journal').rows.length > JOURNAL_ROWS) $('journal').deleteRow(-1);
}

async function refresh() {
  if (refreshing) { again = true; return; }
  refreshing = true;
  try {
    const query = new URLSearchParams({ limit: FILE_ROWS, state: $('filter-state').value, prefix: $('filter-prefix').value });
    state = await ask('GET', '/v1/state');
    if (state.journal_last < lastSeq) { lastSeq = 0; $('journal').replaceChildren(); }
    const [faults, files, journal] = await Promise.all([ask('GET', '/v1/faults'), ask('GET', '/v1/files?' + query),
      ask('GET', '/v1/journal?after=' + Math.max(lastSeq, state.journal_last - JOURNAL_ROWS))]);
    showState(state);
    $('profile').value = state.profile;
    showFaults(faults.faults);
    showFiles(files);
    addEvents(journal.events);
    $('live').classList.add('on');
    $('live').title = 'live';
    document.body.dataset.ready = 'yes';
  } catch (e) {
    $('live').classList.remove('on');
    $('live').title = e.message;
  }
  refreshing = false;
  if (again) { again = false; soon(); }
}

function soon() {
  if (timer === null) timer = setTimeout(() => { timer = null; refresh(); }, 120);
}

// Time that runs is shown running; what it brings comes as an event, or with the next look.
function tick() {
  if (state && state.clock.rate > 0) {
    state.clock.now += state.clock.rate * 0.5;
    showClock(state.clock);
  }
}

async function start() {
  $('recipe').append(...Object.keys(RECIPES).map(name => node('option', {}, name)));
  for (const button of document.querySelectorAll('[data-advance]'))
    button.addEventListener('click', () => act('POST', '/v1/clock/advance', { seconds: Number(button.dataset.advance) }));
  for (const button of document.querySelectorAll('[data-mode]'))
    button.addEventListener('click', () => act('PATCH', '/v1/clock', { mode: button.dataset.mode }));
  $('settle').addEventListener('click', () => act('POST', '/v1/clock/settle', {}));
  $('library').addEventListener('click', () => act('PATCH', '/v1/library', { up: $('library').getAttribute('aria-checked') !== 'true' }));
  $('clear-faults').addEventListener('click', () => act('DELETE', '/v1/faults'));
  $('reset').addEventListener('click', () => { if (confirm('Every file of this archive goes. Reset?')) act('POST', '/v1/reset', {}); });
  $('profile').addEventListener('change', () => act('PATCH', '/v1/settings', { profile: $('profile').value }));
  $('filter-state').addEventListener('change', refresh);
  $('filter-prefix').addEventListener('input', soon);
  $('add-fault').addEventListener('submit', e => {
    e.preventDefault();
    const rule = structuredClone(RECIPES[$('recipe').value]);
    if ($('fault-path').value) rule.match.path = $('fault-path').value;
    rule.note = $('recipe').value;
    act('POST', '/v1/faults', rule);
  });
  try {
    const { profiles } = await ask('GET', '/v1/profiles');
    $('profile').append(...profiles.map(p => node('option', { value: p.name, title: p.help }, p.name)));
  } catch (e) {
    say(e.message);
  }
  await refresh();
  if (!token) {
    const source = new EventSource('/v1/events?after=' + lastSeq);
    source.onerror = () => $('live').classList.remove('on');
    source.onopen = soon;
    for (const kind of ['state', 'flag', 'fault', 'request', 'copy', 'pin', 'drive', 'clock', 'setting', 'name', 'lost'])
      source.addEventListener(kind, soon);
  }
  setInterval(tick, 500);
  setInterval(refresh, 2000);
}

start();
