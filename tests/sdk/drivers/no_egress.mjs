// node --import ./no_egress.mjs: SDKs have hosts of their own built in, and must not reach them from here.
import dns from 'node:dns';

const lookup = dns.lookup;
dns.lookup = (host, options, callback) => {
  if (host === 'localhost' || /^127\./.test(host)) return lookup(host, options, callback);
  const error = Object.assign(new Error(`${host} is not to be reached from a test`), { code: 'ENOTFOUND' });
  return process.nextTick(typeof options === 'function' ? options : callback, error);
};
