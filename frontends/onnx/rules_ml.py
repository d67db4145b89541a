"""ai.onnx.ml: linear and kernel models are products, trees and dictionaries are the host's.

Coefficients are attributes; they become weights of the graph.
"""

from __future__ import annotations

from typing import Any

from wattir.dims import Size, product
from wattir.frontends.onnx.broadcast import Shape, text
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import linear, output

ML = "ai.onnx.ml"
POST = {"SOFTMAX": (3, 1), "SOFTMAX_ZERO": (3, 1), "LOGISTIC": (2, 1), "PROBIT": (4, 2)}  # per score
KERNELS = {"LINEAR": (0, 0), "POLY": (3, 2), "RBF": (3, 1), "SIGMOID": (2, 1)}  # per support vector
_PER_ELEMENT = {"Scaler": ("scale", 2), "Binarizer": ("binarize", 1), "Imputer": ("impute", 2)}


def weight(node: Node, tag: str, shape: Shape) -> Value:
    """A parameter that the file keeps in an attribute."""
    lowering = getattr(node.context, "lowering", None)
    if lowering is None:
        return node.inner(tag, shape, "fp32", "weight")
    made: Value = lowering.constant(f"{node.label}.{tag}", shape, "fp32", None, "weight")
    return made


def rows(x: Value) -> tuple[Value, Size, Size]:
    """x, how many samples it holds, and how many features each; a vector is one sample."""
    return x, (x.shape[0] if x.rank > 1 else 1), (product(x.shape[1:]) if x.rank > 1 else x.shape[0])


@rule(*_PER_ELEMENT, domain=ML)
def per_element(node: Node) -> None:
    function, ops = _PER_ELEMENT[node.op]
    node.result(node.value(0).shape, "fp32" if node.op == "Scaler" else None)
    node.emit("pointwise", function=function, ops=ops)


@rule("Normalizer", domain=ML)
def normalizer(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape, "fp32")
    node.emit("norm", function=f"{text(node.attr('norm', 'MAX')).lower()}_norm", length=x.shape[-1])


# ---- linear models --------------------------------------------------------------------------------------------------


@rule("LinearRegressor", domain=ML)
def linear_regressor(node: Node) -> None:
    x, samples, features = rows(node.value(0))
    targets = int(node.attr("targets", 1))
    result = node.result((samples, targets), "fp32")
    _scores(node, x, (samples, features, targets), result)


@rule("LinearClassifier", domain=ML)
def linear_classifier(node: Node) -> None:
    """Labels [n] and scores [n, classes]; a binary model may hold the coefficients of one class."""
    x, samples, features = rows(node.value(0))
    held = _held(node, features)
    classes = max(len(class_labels(node)), held)
    labels = node.result((samples,), _label_dtype(node))
    scores = output(node, 1, (samples, classes), "fp32", "scores")
    raw = node.inner("raw", (samples, held), "fp32")
    _scores(node, x, (samples, features, held), raw)
    ops, special = POST.get(text(node.attr("post_transform", "NONE")), (1, 0))
    node.emit("pointwise", ins=(raw,), outs=(scores,), function="post_transform", ops=ops, special=special)
    node.emit("reduction", ins=(scores,), outs=(labels,), function="argmax", length=classes)


def _held(node: Node, features: Size) -> int:
    """Classes that have coefficients: those with an intercept, as onnxruntime counts them, else by the features."""
    biases, count = len(node.attr("intercepts") or ()), len(node.attr("coefficients") or ())
    if biases or not isinstance(features, int) or not features or count % features:
        return max(biases, 1)
    return max(count // features, 1)


def _scores(node: Node, x: Value, sizes: tuple[Size, Size, Size], out: Value) -> None:
    samples, features, columns = sizes
    coefficients = weight(node, "coefficients", (features, columns))
    bias = weight(node, "intercepts", (columns,)) if node.attr("intercepts") else None
    flat = Value(x.name, (samples, features), x.dtype)
    linear(node, flat, coefficients, columns, added=(bias,), out=out)


def class_labels(node: Node) -> tuple[Any, ...]:
    """The classes of a classifier, under any of their names."""
    names = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")
    return next((tuple(node.attr(name)) for name in names if node.attr(name)), ())


def _label_dtype(node: Node) -> str:
    return "string" if node.attr("classlabels_strings") else "int64"


# ---- support vectors ------------------------------------------------------------------------------------------------


@rule("SVMRegressor", "SVMClassifier", domain=ML)
def support_vectors(node: Node) -> None:
    """Kernel values of x and every support vector, then sums of them; without support vectors a linear model."""
    x, samples, features = rows(node.value(0))
    held = node.attr("n_supports", 0) or sum(node.attr("vectors_per_class") or (0,))
    kernel = text(node.attr("kernel_type", "LINEAR"))
    outs: tuple[Value, ...]
    if node.op == "SVMRegressor":
        outs, columns = (node.result((samples, 1), "fp32"),), 1
    else:
        labels = node.result((samples,), _label_dtype(node))
        classes = max(len(class_labels(node)), 1)
        columns = max(classes * (classes - 1) // 2, 1)
        shape = (samples, _score_columns(node, classes, columns, bool(held)))
        outs = (labels, output(node, 1, shape, "fp32", "scores"))
    flat = Value(x.name, (samples, features), x.dtype)
    if held:
        vectors = weight(node, "support_vectors", (features, held))
        made = linear(node, flat, vectors, held, tag="kernel", out=node.inner("kernel", (samples, held), "fp32"))
        ops, special = KERNELS.get(kernel, (0, 0))
        flat = node.inner("kernel_values", (samples, held), "fp32")
        node.emit("pointwise", ins=(made,), outs=(flat,), function=kernel.lower(), ops=ops, special=special)
    coefficients = weight(node, "coefficients", (flat.shape[-1], columns))
    raw = linear(node, flat, coefficients, columns, tag="sums", out=node.inner("sums", (samples, columns), "fp32"))
    node.emit("pointwise", ins=(raw,), outs=outs, function="post_transform", ops=1)


def _score_columns(node: Node, classes: int, pairs: int, held: bool) -> int:
    """Probabilities give one score for each class, votes one for each pair of classes."""
    if not held or node.attr("prob_a"):
        return classes
    return max(pairs, 2) if classes == 2 else pairs


# ---- trees ----------------------------------------------------------------------------------------------------------


def _levels(node: Node) -> int:
    """Levels of all trees together: a tree of n nodes is taken as balanced."""
    ids = node.attr("nodes_treeids")
    if ids is None:
        count, nodes = len(node.attr("tree_roots") or (0,)), len(node.attr("nodes_featureids") or ())
    else:
        count, nodes = len(set(ids)), len(ids)
    return count * max(-(-nodes // max(count, 1)), 1).bit_length()


def _tree_host(node: Node, samples: Size, outs: tuple[Value, ...]) -> None:
    """2 operations for each level of each tree and sample."""
    node.emit("host", outs=outs, function="tree_ensemble", ops=2 * _levels(node) * samples)


@rule("TreeEnsembleRegressor", "TreeEnsemble", domain=ML)
def tree_regressor(node: Node) -> None:
    _, samples, _ = rows(node.value(0))
    targets = int(node.attr("n_targets", 1))
    dtype = node.value(0).dtype if node.op == "TreeEnsemble" else "fp32"
    _tree_host(node, samples, (node.result((samples, targets), dtype),))


@rule("TreeEnsembleClassifier", domain=ML)
def tree_classifier(node: Node) -> None:
    _, samples, _ = rows(node.value(0))
    classes = max(len(class_labels(node)), 1)
    labels = node.result((samples,), _label_dtype(node))
    scores = output(node, 1, (samples, classes), "fp32", "scores")
    _tree_host(node, samples, (labels, scores))


# ---- dictionaries, labels, texts ------------------------------------------------------------------------------------


def _host(node: Node, dtype: str | None, function: str) -> None:
    """Same shape, done by the host."""
    node.result(node.value(0).shape, dtype)
    node.emit("host", function=function)


@rule("LabelEncoder", "CategoryMapper", domain=ML)
def label_encoder(node: Node) -> None:
    """From one kind of label to another, by a dictionary."""
    kinds = {"values_strings": "string", "values_int64s": "int64", "values_floats": "fp32"}
    dtype = next((kind for name, kind in kinds.items() if node.attr(name)), None)
    if node.op == "CategoryMapper":
        dtype = "int64" if node.value(0).dtype == "string" else "string"
    if dtype is None and node.attr("values_tensor") is not None:
        from wattir.frontends.onnx.dtypes import dtype_of

        dtype = dtype_of(node.attr("values_tensor").data_type, "int64")
    _host(node, dtype, "label_encoder")


@rule("CastMap", domain=ML)
def cast_map(node: Node) -> None:
    kinds = {"TO_INT64": "int64", "TO_STRING": "string"}
    length = int(node.attr("max_map", 1)) if text(node.attr("map_form", "DENSE")) == "SPARSE" else 1
    node.result((1, length), kinds.get(text(node.attr("cast_to", "TO_FLOAT")), "fp32"))
    node.emit("host", function="cast_map")


@rule("ZipMap", domain=ML)
def zip_map(node: Node) -> None:
    """A dictionary for each row; here the tensor of their values."""
    _host(node, None, "zip_map")


@rule("OneHotEncoder", domain=ML)
def one_hot_encoder(node: Node) -> None:
    x = node.value(0)
    count = len(node.attr("cats_int64s") or node.attr("cats_strings") or ())
    node.result((*x.shape, count), "fp32")
    node.emit("pointwise", function="one_hot", ops=1)


@rule("DictVectorizer", domain=ML)
def dict_vectorizer(node: Node) -> None:
    count = len(node.attr("int64_vocabulary") or node.attr("string_vocabulary") or ())
    node.result((1, count), "fp32")
    node.emit("host", function="dict_vectorizer")


@rule("FeatureVectorizer", domain=ML)
def feature_vectorizer(node: Node) -> None:
    """The features of all inputs side by side."""
    values = [node.value(index) for index in range(len(node.ins))]
    given = node.attr("inputdimensions")
    widths: list[Size] = list(given) if given else [value.shape[-1] for value in values]
    lead: Size = values[0].shape[0] if values[0].rank > 1 else 1
    node.result((lead, sum(widths, start=0)), "fp32")
    node.emit("copy", function="concat")
