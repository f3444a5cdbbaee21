import assert from 'node:assert/strict';
import test from 'node:test';
import { check } from './compatibility.js';

const within = (tag, val) => ({ settings: [{ key: 'max-epochs', value: { tag, val } }] });

test('only a job above the limit is refused', () => {
  assert.equal(check({ settings: [] }, { epochs: 500 }).tag, 'yes');
  assert.equal(check(within('integer', 5n), { epochs: 5 }).tag, 'yes');
  const { tag, val } = check(within('integer', 5n), { epochs: 6 });
  assert.equal(tag, 'no');
  assert.equal(val[0].message, 'trains at most 5 epochs, not 6');
});

test('an invalid setting is named', () => {
  assert.throws(() => check(within('text', 'many'), { epochs: 6 }), (said) => /max-epochs/.test(said));
});
