// The settings of a channel, read from JSON.
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

struct settings {
    // Begins with `/`, has none at its end: empty for the root.
    char *prefix;
    // As the settings have it, for people.
    char *prefix_given;
    // Null: every model.
    char **models;
    size_t models_len;
};

// Reads `text` (`len` bytes, not terminated; nothing at all means no settings). False: `error` is what is wrong, to be
// freed by the caller, and `settings` is untouched.
bool settings_read(struct settings *settings, const char *text, size_t len, char **error);

// Frees what `settings` refers to.
void settings_free(struct settings *settings);

// Whether the channel serves this model (`len` bytes, not terminated).
bool settings_serve(const struct settings *settings, const char *model, size_t len);

#endif
