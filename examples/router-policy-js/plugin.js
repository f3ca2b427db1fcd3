// Picks a node of the zone of the caller at random, each as often as its weight says; a node of any zone where there is none.
// The settings are {"local": true}; without `local` zones do not matter.

import { random, zone } from 'platform:router/load@0.1.0';
import { settings } from 'platform-sdk';

const tables = new Map();
let local = true;

export const lifecycle = {
  configure(text) {
    ({ local } = settings(text, { local: true }));
  },
  selfTest() {},
};

export const policy = {
  setNodes(table, _service, nodes) {
    tables.set(table, nodes);
  },
  dropNodes(table) {
    tables.delete(table);
  },
  // Nothing is the answer where no node takes traffic.
  pick(table, _key, _attempt) {
    const nodes = tables.get(table) ?? [];
    const near = local ? nodes.filter((node) => node.zone === zone()) : [];
    const among = near.some((node) => node.weight > 0) ? near : nodes;
    const all = among.reduce((sum, node) => sum + node.weight, 0);
    // 64 random bits come as a number that is exact to 53 of them, so the upper ones count.
    let left = Math.floor((Number(random()) / 2 ** 64) * all);
    for (const node of among) {
      if (left < node.weight) {
        return nodes.indexOf(node);
      }
      left -= node.weight;
    }
    return null;
  },
  weights(table) {
    return (tables.get(table) ?? []).map((node) => node.weight);
  },
};
