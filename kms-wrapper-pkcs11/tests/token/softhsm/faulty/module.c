/* A PKCS#11 module that hands every call to the real one, whose path is in KMS_TEST_PKCS11_MODULE, and fails as a
   file beside it says. A copy of it is a module of its own.

   Beside libfaulty.so: `libfaulty.so.calls` gets a line per call, its name. `libfaulty.so.fault` holds a word and a
   number: `C_Encrypt 0x32` fails that function with that code, `C_Login hang` keeps it waiting until the file says
   something else, `gone` is a token that was removed, with all its sessions, `flags 0x20000` adds flags to what the
   token says of itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long W;
typedef W (*Function)(W, W, W, W, W, W, W, W);

/* CK_FUNCTION_LIST of version 2: every parameter of every function fits a word. */
struct list {
    unsigned char major, minor;
    Function of[68];
};

enum { GET_FUNCTION_LIST = 3, GET_SLOT_LIST = 4, GET_TOKEN_INFO = 6, OPEN_SESSION = 12, CLOSE_ALL = 14 };
enum { DEVICE_REMOVED = 0x32, FLAGS_OF_TOKEN_INFO = 96 };

static struct list *real, ours;
static W used_slot = ~0UL;

static void beside(const char *suffix, char *path) {
    Dl_info self;
    dladdr((void *)beside, &self);
    snprintf(path, 4096, "%s.%s", self.dli_fname, suffix);
}

static void fault(char *word, char *value) {
    char path[4096];
    *word = *value = 0;
    beside("fault", path);
    FILE *file = fopen(path, "r");
    if (!file) return;
    if (fscanf(file, "%63s %63s", word, value) < 1) *word = 0;
    fclose(file);
}

static W call(int number, const char *name, W a, W b, W c, W d, W e, W f, W g, W h) {
    char path[4096], word[64], value[64];
    beside("calls", path);
    FILE *calls = fopen(path, "a");
    /* The folder goes with its test; the module stays. */
    if (calls) fprintf(calls, "%s\n", name), fclose(calls);
    for (fault(word, value); !strcmp(word, name) && !strcmp(value, "hang"); fault(word, value)) usleep(2000);
    if (!strcmp(word, name)) return strtoul(value, NULL, 0);
    if (!strcmp(word, "gone")) {
        if (used_slot != ~0UL) real->of[CLOSE_ALL](used_slot, 0, 0, 0, 0, 0, 0, 0);
        used_slot = ~0UL;
        if (number == GET_SLOT_LIST) return *(W *)c = 0;
        if (number > GET_SLOT_LIST) return DEVICE_REMOVED;
    }
    W code = real->of[number](a, b, c, d, e, f, g, h);
    if (!code && number == OPEN_SESSION) used_slot = a;
    if (!code && number == GET_TOKEN_INFO && !strcmp(word, "flags"))
        *(W *)(b + FLAGS_OF_TOKEN_INFO) |= strtoul(value, NULL, 0);
    return code;
}

#define EACH(_) \
    _(0, Initialize) _(1, Finalize) _(2, GetInfo) _(4, GetSlotList) _(5, GetSlotInfo) _(6, GetTokenInfo) \
    _(7, GetMechanismList) _(8, GetMechanismInfo) _(12, OpenSession) _(13, CloseSession) _(15, GetSessionInfo) \
    _(18, Login) _(19, Logout) _(20, CreateObject) _(22, DestroyObject) _(24, GetAttributeValue) \
    _(26, FindObjectsInit) _(27, FindObjects) _(28, FindObjectsFinal) _(29, EncryptInit) _(30, Encrypt) \
    _(33, DecryptInit) _(34, Decrypt) _(60, WrapKey) _(61, UnwrapKey)

#define DEFINE(number, name) \
    static W name(W a, W b, W c, W d, W e, W f, W g, W h) { return call(number, "C_" #name, a, b, c, d, e, f, g, h); }
EACH(DEFINE)

W C_GetFunctionList(struct list **list) {
    void *library = dlopen(getenv("KMS_TEST_PKCS11_MODULE"), RTLD_NOW);
    W (*get)(struct list **) = (W(*)(struct list **))dlsym(library, "C_GetFunctionList");
    W code = get(&real);
    ours = *real;
#define SET(number, name) ours.of[number] = name;
    EACH(SET)
    *list = &ours;
    return code;
}
