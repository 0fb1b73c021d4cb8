// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prints why options do not have the values that were requested. Linked against the objects of the kernel's own
 * scripts/kconfig, so that Kconfig itself decides. Runs in the build directory, with Kconfig's environment.
 *
 * usage: why SYMBOL... ; prints a block for each symbol:
 *	symbol NAME TYPE VALUE
 *	prompt yes|no
 *	unmet EXPRESSION		a conjunct of its dependencies that does not hold (values in brackets)
 *	selected EXPRESSION		what selects it, so that its value cannot be lower
 *	choice				it belongs to a choice, of which another symbol is set
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lkc.h"

static void print_expr(const char *label, struct expr *e)
{
	struct gstr text = str_new();

	expr_gstr_print(e, &text);
	printf("%s %s\n", label, str_get(&text));
	str_free(&text);
}

static void print_unmet(struct expr *e)
{
	if (!e || expr_calc_value(e) == yes)
		return;
	if (e->type == E_AND) {
		print_unmet(e->left.expr);
		print_unmet(e->right.expr);
		return;
	}
	print_expr("unmet", e);
}

/* of the list of selectors, which may be long, those that are not n */
static void print_selectors(struct expr *e)
{
	if (e->type == E_OR) {
		print_selectors(e->left.expr);
		print_selectors(e->right.expr);
	} else if (expr_calc_value(e) != no) {
		print_expr("selected", e);
	}
}

static int is_prompt(struct property *prop)
{
	/* menuconfig entries keep their prompt as a menu */
	return prop->text && (prop->type == P_PROMPT || prop->type == P_MENU);
}

static void explain(const char *name)
{
	struct symbol *sym = sym_find(name);
	struct property *prop;
	int prompts = 0;

	if (!sym || sym->type == S_UNKNOWN) {
		printf("symbol %s unknown -\n", name);
		return;
	}
	sym_calc_value(sym);
	printf("symbol %s %s %s\n", name, sym_type_name(sym->type), sym_get_string_value(sym));
	for (prop = sym->prop; prop; prop = prop->next)
		if (is_prompt(prop))
			prompts++;
	printf("prompt %s\n", prompts ? "yes" : "no");
	print_unmet(sym->dir_dep.expr);
	for (prop = sym->prop; prop; prop = prop->next)
		if (is_prompt(prop) && prompts == 1)
			print_unmet(prop->visible.expr);
	if (sym->rev_dep.expr && expr_calc_value(sym->rev_dep.expr) != no)
		print_selectors(sym->rev_dep.expr);
	if (sym_is_choice_value(sym))
		printf("choice\n");
}

int main(int argc, char **argv)
{
	conf_parse(getenv("KERNELCRAFT_KCONFIG"));
	if (conf_read(NULL))
		return 1;
	for (int i = 1; i < argc; i++)
		explain(argv[i]);
	return 0;
}
