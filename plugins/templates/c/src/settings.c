// Reading the settings: every name and type is checked, and an error says which is wrong.

#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cJSON.h"

// Out of memory ends the call, and the gateway throws this instance away.
static void *needed(void *memory) {
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static char *copy(const char *text, size_t len) {
    char *copied = needed(malloc(len + 1));
    memcpy(copied, text, len);
    copied[len] = '\0';
    return copied;
}

static char *copy_all(const char *text) { return copy(text, strlen(text)); }

static bool is_known(const char *name) {
    // Names that begin with `_` are comments.
    return name[0] == '_' || strcmp(name, "prefix") == 0 || strcmp(name, "models") == 0;
}

static char *unknown(const char *name) {
    const char *format = "settings: unknown setting `%s` (known: prefix, models)";
    size_t size = strlen(format) + strlen(name) + 1;
    char *message = needed(malloc(size));
    snprintf(message, size, format, name);
    return message;
}

static bool is_list_of_strings(const cJSON *value) {
    if (!cJSON_IsArray(value)) {
        return false;
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, value) {
        if (!cJSON_IsString(item)) {
            return false;
        }
    }
    return true;
}

// Null, or what is wrong.
static char *fault(const cJSON *given) {
    if (given == NULL) {
        return copy_all("settings: expected JSON");
    }
    if (!cJSON_IsObject(given)) {
        return copy_all("settings: expected an object");
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, given) {
        if (!is_known(item->string)) {
            return unknown(item->string);
        }
    }
    const cJSON *prefix = cJSON_GetObjectItemCaseSensitive(given, "prefix");
    if (prefix != NULL && !cJSON_IsString(prefix)) {
        return copy_all("settings.prefix: expected a string");
    }
    if (prefix != NULL && (prefix->valuestring[0] != '/' || strpbrk(prefix->valuestring, " \t\n\v\f\r") != NULL)) {
        return copy_all("settings.prefix: must begin with `/` and hold no white space");
    }
    const cJSON *models = cJSON_GetObjectItemCaseSensitive(given, "models");
    if (models != NULL && !is_list_of_strings(models)) {
        return copy_all("settings.models: expected a list of strings");
    }
    return NULL;
}

// Of settings without a fault.
static struct settings taken(const cJSON *given) {
    struct settings settings = {0};
    const cJSON *prefix = cJSON_GetObjectItemCaseSensitive(given, "prefix");
    settings.prefix_given = copy_all(prefix != NULL ? prefix->valuestring : "/v1");
    size_t len = strlen(settings.prefix_given);
    while (len > 0 && settings.prefix_given[len - 1] == '/') {
        len--;
    }
    settings.prefix = copy(settings.prefix_given, len);
    const cJSON *models = cJSON_GetObjectItemCaseSensitive(given, "models");
    if (models != NULL) {
        // One more, since a list of no models is a list all the same.
        settings.models = needed(calloc((size_t)cJSON_GetArraySize(models) + 1, sizeof *settings.models));
        const cJSON *item;
        cJSON_ArrayForEach(item, models) {
            settings.models[settings.models_len++] = copy_all(item->valuestring);
        }
    }
    return settings;
}

bool settings_read(struct settings *settings, const char *text, size_t len, char **error) {
    char *terminated = len == 0 ? copy_all("{}") : copy(text, len);
    // To the end of the text: what follows the value is an error, too.
    cJSON *given = cJSON_ParseWithOpts(terminated, NULL, true);
    free(terminated);
    *error = fault(given);
    if (*error == NULL) {
        *settings = taken(given);
    }
    cJSON_Delete(given);
    return *error == NULL;
}

void settings_free(struct settings *settings) {
    for (size_t i = 0; i < settings->models_len; i++) {
        free(settings->models[i]);
    }
    free(settings->models);
    free(settings->prefix);
    free(settings->prefix_given);
    *settings = (struct settings){0};
}

bool settings_serve(const struct settings *settings, const char *model, size_t len) {
    if (settings->models == NULL) {
        return true;
    }
    for (size_t i = 0; i < settings->models_len; i++) {
        const char *served = settings->models[i];
        if (strlen(served) == len && memcmp(served, model, len) == 0) {
            return true;
        }
    }
    return false;
}
