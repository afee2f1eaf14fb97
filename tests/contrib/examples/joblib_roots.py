"""After joblib's guide, Common usage, and scikit-learn's, Cross-validation: roots, and scores of a classifier."""

from math import sqrt
from typing import Any

import joblib
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from pipeline import register_joblib
from tests.contrib.recipes import Recipe
from tests.contrib.trajectory import recorded


@recorded
def root(x: float) -> float:
    return sqrt(x)


def run(recipe: Recipe | None) -> Any:
    features, labels = load_iris(return_X_y=True)
    classifier = SVC(kernel="linear", C=1, random_state=42)
    if recipe is None:
        roots = joblib.Parallel()(joblib.delayed(root)(i**2) for i in range(10))
        return roots, cross_val_score(classifier, features, labels, cv=4)
    names = {"joblib": joblib, "register_joblib": register_joblib, "cross_val_score": cross_val_score, "root": root}
    found = recipe(classifier=classifier, features=features, labels=labels, **names)
    return found["roots"], found["scores"]
