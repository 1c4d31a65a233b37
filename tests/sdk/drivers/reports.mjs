/** The lines that say that an exposure or a custom event was logged; `tell` says one. */
export const reports = (tell) => ({
  exposed: (kind, name, unit, rule, more = {}) => tell({ exposed: { kind, name, unit, rule, ...more } }),
  logged: (name, own_id, value = null) => tell({ logged: { name, own_id, value } }),
});
