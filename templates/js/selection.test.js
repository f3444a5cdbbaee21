import assert from 'node:assert/strict';
import test from 'node:test';
import { select } from './selection.js';

const worker = (tag, memoryMib, memoryFreeMib) => ({
  status: { tag },
  gpus: [{ memoryMib, memoryFreeMib }],
});

test('the most free memory comes first, and busy workers are left out', () => {
  const workers = [
    worker('available', 24000n, 1000n),
    worker('busy', 80000n),
    worker('available', 8000n),
  ];
  const { choices, leftOut } = select({}, {}, workers);
  assert.deepEqual(choices.map((choice) => choice.index), [2, 0]);
  assert.equal(choices[0].reason, '8000 MiB of GPU memory free');
  assert.deepEqual(leftOut, [{ index: 1, reason: 'not available' }]);
});
