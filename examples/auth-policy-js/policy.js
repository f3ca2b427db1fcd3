// An auth policy: paths in `open` are for everyone, reading is for every known caller, writing for those with the role
// `writer`. Settings: {"open": ["/docs/"], "writer": "editor"}, both optional.

const READING = new Set(['GET', 'HEAD', 'OPTIONS']);
let settings = { open: [], writer: 'writer' };

const allow = (reason) => ({ tag: 'allow', val: { reason, setHeaders: [], removeHeaders: [] } });
// Status 0 leaves it to the host: 401 without a verified caller, else 403.
const deny = (reason) => ({ tag: 'deny', val: { reason, status: 0, headers: [] } });

const problem = (message, at) => Object.assign(new Error(message), { payload: { message, at } });

export const lifecycle = {
  configure(text) {
    const given = JSON.parse(text);
    const { open = [], writer = 'writer', ...unknown } = given;
    if (!Array.isArray(open) || !open.every((prefix) => typeof prefix === 'string' && prefix.startsWith('/'))) {
      throw problem('`open` must be a list of path prefixes that start with `/`', '/open');
    }
    if (typeof writer !== 'string' || writer === '') {
      throw problem('`writer` must be the name of a role', '/writer');
    }
    const [name] = Object.keys(unknown);
    if (name !== undefined) {
      throw problem(`no setting \`${name}\`, only \`open\` and \`writer\``, `/${name}`);
    }
    settings = { open, writer };
  },
  selfTest() {},
};

export const policy = {
  authorize(subject, action, target, request) {
    if (settings.open.some((prefix) => target.startsWith(prefix))) return allow('open to everyone');
    if (subject === '') return deny('a verified caller is needed');
    if (READING.has(action)) return allow('every known caller may read');
    if (request.hasRole(settings.writer)) return allow(`has the role ${settings.writer}`);
    return deny(`the role ${settings.writer} is needed`);
  },
};
