'use strict';

const $ = id => document.getElementById(id);
const ROWS = 300, POLL_MS = 1000;
// Behind '#', which no browser sends; then it is taken out of the address, so that no bookmark or screenshot has it.
let token = new URLSearchParams(location.hash.slice(1)).get('token') || sessionStorage.getItem('token');
let after = null, paused = false, timer = null;

function node(name, attributes, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {}))
    if (key === 'class') e.className = value; else e.setAttribute(key, value);
  for (const child of children) if (child !== null && child !== undefined) e.append(child);
  return e;
}

function svg(name, attributes, title) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (title) {
    const t = document.createElementNS('http://www.w3.org/2000/svg', 'title');
    t.textContent = title;
    e.append(t);
  }
  return e;
}

function fill(parent, nodes) {
  (typeof parent === 'string' ? $(parent) : parent).replaceChildren(...nodes);
}

function say(text) {
  $('message').textContent = text || '';
  $('message').hidden = !text;
}

const number = n => n === null || n === undefined ? '–' : n.toLocaleString('en-US');

async function ask(path) {
  const reply = await fetch(path, { headers: { Authorization: 'Bearer ' + token }, cache: 'no-store' });
  if (reply.status === 401) throw Object.assign(new Error('the token is wrong'), { token: true });
  if (!reply.ok) throw new Error(path + ': ' + reply.status);
  return reply.json();
}

function pairs(id, list) {
  fill(id, list.filter(p => p && p[1] !== null && p[1] !== undefined && p[1] !== '').flatMap(([name, value]) =>
    [node('dt', {}, name), node('dd', {}, String(value))]));
}

function seconds(s) {
  return s < 120 ? s + ' s' : s < 7200 ? Math.round(s / 60) + ' min' : s < 172800 ? Math.round(s / 3600) + ' h' : Math.round(s / 86400) + ' d';
}

function showDaemon(state) {
  const d = state.daemon;
  $('share').textContent = d.share || state.share;
  document.title = (d.share || state.share) + ' – wormfs';
  document.body.dataset.daemon = d.state;
  $('daemon').textContent = d.state === 'mounted' ? 'mounted at ' + d.mountpoint + ', wormfs ' + d.version + ', pid ' + d.pid :
    d.state + (d.why ? ': ' + d.why : '');
  $('policy').textContent = d.mode ? d.mode + ', retention ' + d.retention + ', commit ' + d.commit + (d.rules ? ', ' + d.rules.count + ' rules' : '') : '';
  $('problems').hidden = !state.problems.length;
  fill('problems', state.problems.map(p => node('li', {}, p)));
}

function showRefusals(refusals) {
  const most = Math.max(1, ...refusals.minutes), all = refusals.minutes.reduce((a, b) => a + b, 0);
  fill('refusals', refusals.minutes.map((n, i) => {
    const height = n ? Math.max(3, n / most * 84) : 1, ago = refusals.minutes.length - 1 - i;
    return svg('rect', { x: i * 10 + 1, y: 90 - height, width: 8, height, class: n ? 'some' : 'none', 'data-n': n }, n + ', ' + ago + ' min ago');
  }));
  $('refused-hour').textContent = number(all) + ' in the last hour';
  $('refusals-note').textContent = refusals.source === 'events' ? '' : 'from the counters of the daemon, since this page is served';
}

function showLocks(locks) {
  const most = Math.max(1, ...locks.rules.map(r => r.files));
  const rows = locks.rules.slice().sort((a, b) => b.files - a.files).slice(0, 50);
  fill($('rules').tBodies[0], rows.map(r => node('tr', { 'data-rule': r.rule }, node('td', {}, r.rule || 'mount options'),
    node('td', {}, node('meter', { min: 0, max: most, value: r.files })), node('td', { class: 'number' }, number(r.files)))));
  $('files').textContent = number(locks.files) + ' files, ' + number(locks.held) + ' held';
  $('counted').textContent = locks.error ? 'the ledger cannot be read: ' + locks.error :
    (locks.complete ? '' : 'still counting') + (locks.other_rules ? ' ' + number(locks.other_rules) + ' files of other rules' : '');
  fill('days', locks.days.map(d => node('li', { class: d.files ? 'some' : '', 'data-day': d.day, title: d.day }, d.day.slice(5),
    node('b', {}, d.files ? number(d.files) : ''))));
  const months = locks.months.slice(0, 24).map(m => [m.month, m.files]);
  const rest = locks.months.slice(24).reduce((a, m) => a + m.files, locks.later);
  const ends = months.concat([['later', rest], ['no end', locks.infinite], ['unspecified', locks.unspecified], ['expired', locks.expired]]);
  const longest = Math.max(1, ...ends.map(e => e[1]));
  fill($('months').tBodies[0], ends.filter(e => e[1]).map(([name, files]) => node('tr', { 'data-end': name }, node('td', {}, name),
    node('td', {}, node('meter', { min: 0, max: longest, value: files })), node('td', { class: 'number' }, number(files)))));
}

function showPushAndClock(state) {
  const p = state.push, c = state.clock;
  $('push').dataset.state = p ? p.state : 'off';
  pairs('push', p ? [['state', p.state + (p.reason ? ': ' + p.reason : '')], ['cluster', p.target], ['directory', p.root],
    ['waiting', number(p.waiting)], ['failed', number(p.failed)], p.told !== undefined && ['told', number(p.told) + ' since the mount'],
    ['next try', p.next_try]] : [['state', 'off']]);
  $('clock').dataset.state = c ? c.state : 'unknown';
  pairs('clock', c ? [['state', c.state], ['retention', c.now + ' (' + c.source + ')'], ['system', c.system],
    ['behind', c.behind ? seconds(c.behind) : null], ['may believe', c.budget !== null ? seconds(c.budget) : null],
    ['synchronised', c.synchronised ? 'yes' : 'no']] : [['state', 'stands still: nothing is mounted']]);
}

function showHealth(state) {
  const part = (p, more) => p ? p.state + more + (p.error ? ': ' + p.error : '') : null;
  const l = state.ledger, a = state.audit, g = state.digest, e = state.events;
  pairs('health', [['ledger', part(l, l ? ', ' + number(l.queued) + ' waiting' : '')],
    ['audit log', part(a, a && a.state !== 'off' ? ', ' + number(a.seq) + ' lines, ' + number(a.lost) + ' lost' : '')],
    g && ['digests', g.enabled ? number(g.pending) + ' pending, ' + number(g.failed) + ' failed' : 'off'],
    e.state && ['events', part(e, e.state === 'off' ? '' : ', ' + number(e.noted) + ' noted, ' + number(e.dropped) + ' dropped')],
    ...e.sinks.map(s => ['consumer', s.name + ': ' + number(s.sent) + ' sent, ' + number(s.dropped) + ' dropped' + (s.error ? ', ' + s.error : '')]),
    state.daemon.refused && ['refused', Object.entries(state.daemon.refused).map(([op, n]) => op + ' ' + number(n)).join(', ')]]);
  $('missed').textContent = e.missed ? number(e.missed) + ' missed' : '';
  $('stream').textContent = e.ring_error ? 'the events cannot be read: ' + e.ring_error :
    e.ring ? '' : 'there are no events: mount the share with -o events=on';
}

function row(line) {
  const e = line.Event;
  return node('tr', { class: e.Refused ? 'refused' : '', 'data-seq': line.Seq, 'data-type': e.Type }, node('td', {}, String(line.Seq)),
    node('td', {}, line.Time.slice(11, 23)), node('td', {}, e.Uid === undefined ? '–' : String(e.Uid)), node('td', {}, e.Command || '–'),
    node('td', {}, e.Type + (e.Error ? ' ' + e.Error : '')), node('td', {}, e.Path + (e.TargetPath ? ' → ' + e.TargetPath : '')),
    node('td', {}, e.Lost ? e.Lost + ' lost' : e.Detail || ''));
}

function showEvents(answer) {
  const body = $('events').tBodies[0], only = $('only-refused').checked;
  for (const line of answer.events) if (!only || line.Event.Refused || line.Event.Type === 'Gap') body.prepend(row(line));
  while (body.rows.length > ROWS) body.lastElementChild.remove();
}

async function refresh() {
  clearTimeout(timer);
  try {
    const state = await ask('/api/state');
    showDaemon(state);
    showRefusals(state.refusals);
    showLocks(state.locks);
    showPushAndClock(state);
    showHealth(state);
    while (!paused) {
      const answer = await ask('/api/events' + (after === null ? '' : '?after=' + after));
      showEvents(answer);
      after = answer.next;
      if (!answer.events.length) break;
    }
    document.querySelector('main').hidden = false;
    $('ask').hidden = true;
    $('live').className = 'dot on';
    $('live').title = 'connected';
    say('');
    document.body.dataset.ready = 'yes';
  } catch (error) {
    $('live').className = 'dot';
    $('live').title = 'not connected';
    say(error.token ? 'The token is missing or wrong: open the URL that wormctl serve printed, or enter the token.' : 'No answer: ' + error.message);
    $('ask').hidden = !error.token;
    if (error.token) return;
  }
  timer = setTimeout(refresh, POLL_MS);
}

$('pause').addEventListener('click', () => {
  paused = !paused;
  $('pause').setAttribute('aria-pressed', paused);
});
$('only-refused').addEventListener('change', () => {
  fill($('events').tBodies[0], []);
  after = null;
});
$('ask').addEventListener('submit', event => {
  event.preventDefault();
  token = $('token').value.trim();
  $('token').value = '';
  sessionStorage.setItem('token', token);
  refresh();
});

if (location.hash) history.replaceState(null, '', location.pathname);
if (token) sessionStorage.setItem('token', token);
refresh();
