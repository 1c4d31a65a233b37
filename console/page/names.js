// Names that are nearly what somebody wrote.

const NEAR_MAX = 5;

/** How many letters must be changed, added or left out to make one of the other (Levenshtein, 1966). */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let at = 1; at <= one.length; at += 1) {
    const next = [at];
    for (let index = 1; index <= other.length; index += 1) {
      next.push(Math.min(row[index] + 1, next[index - 1] + 1, row[index - 1] + (one[at - 1] === other[index - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row.at(-1);
}

/** Return the entities whose names are near, nearest first; one that holds the other is near. */
export function nearest(name, entities) {
  const wanted = name.toLowerCase().slice(0, 100);
  return entities
    .map((entity) => {
      const given = entity.name.toLowerCase().slice(0, 100);
      const far = given.includes(wanted) || wanted.includes(given) ? 1 : distance(wanted, given);
      return { entity, far };
    })
    .filter(({ far }) => far <= Math.max(2, wanted.length / 3))
    .sort((one, other) => one.far - other.far)
    .slice(0, NEAR_MAX)
    .map(({ entity }) => entity);
}
