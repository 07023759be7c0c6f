// Says what KEDA 2.20 makes of formulas: it wraps them as KEDA does, and asks expr-lang itself.
//
// Input: one formula a line, as a JSON string; what follows a tab is ignored, so the output can be the input again.
// Output: the formula, then "refused", or its value in three situations: a = 25 and b = 40; a = 0 and b = -3.5; a is nil and
// b = 40. All other triggers have 7. Values are cut to thousandths, as KEDA does; "-" is no number, or one that has no place
// in thousandths, of which KEDA makes the smallest there is.
//
//	cd tests/expr-lang && go run . < ../../crates/scaling/src/formula/expr-lang.tsv
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
)

var names = []string{"a", "b", "notifications", "note_q", "nilable", "trueval", "falsey", "index", "orders", "in_queue"}

var situations = [][2]any{{25.0, 40.0}, {0.0, -3.5}, {nil, 40.0}}

// wrapped is castToFloatIfNecessary of apis/keda/v1alpha1/scaledobject_webhook.go.
func wrapped(formula string) string {
	if strings.Contains(formula, "??") {
		return fmt.Sprintf("let _kedaCompositeResult = (%s); _kedaCompositeResult == nil ? nil : float(_kedaCompositeResult)", formula)
	}
	if strings.HasPrefix(formula, "float(") {
		return formula
	}
	return "float(" + formula + ")"
}

func results(formula string) []string {
	types := map[string]float64{}
	for _, name := range names {
		types[name] = -1
	}
	program, err := expr.Compile(wrapped(formula), expr.Env(types))
	if err != nil {
		return []string{"refused"}
	}
	// Admission runs it once, with -1 for every trigger.
	if _, err = expr.Run(program, types); err != nil {
		return []string{"refused"}
	}
	var said []string
	for _, situation := range situations {
		values := map[string]any{}
		for _, name := range names {
			values[name] = 7.0
		}
		values["a"], values["b"] = situation[0], situation[1]
		result, err := expr.Run(program, values)
		number, isNumber := result.(float64)
		if err != nil || !isNumber || math.IsNaN(number) || math.Abs(number*1000) >= 1<<63 {
			said = append(said, "-")
		} else {
			said = append(said, strconv.FormatFloat(float64(int64(number*1000))/1000, 'f', -1, 64))
		}
	}
	return said
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		written, _, _ := strings.Cut(lines.Text(), "\t")
		var formula string
		if err := json.Unmarshal([]byte(written), &formula); err != nil {
			fmt.Fprintln(os.Stderr, written, err)
			os.Exit(1)
		}
		fmt.Println(written + "\t" + strings.Join(results(formula), "\t"))
	}
}
