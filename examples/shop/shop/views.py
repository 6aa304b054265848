"""Browsing and the cart."""

from django.core.paginator import Paginator
from django.db.models import Avg, Count, Max, Min
from django.http import HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from shop import inventory_client
from shop.basket import Basket
from shop.cache import remembered
from shop.faults import switches
from shop.models import Brand, Category, Order, Product
from shop.telemetry import events, visit_of

PAGE_SIZE = 48
MAX_QUANTITY = 20


@require_safe
@ensure_csrf_cookie
def product_list(request):
    """The products of a category, forty-eight a page."""
    products = Product.objects.order_by("-rating", "pk")
    category = request.GET.get("category", "")
    if category:
        products = products.filter(category__slug=category)
    if not switches.on("n_plus_one"):
        products = products.select_related("brand")
    if switches.on("slow_query"):
        products = products.extra(where=[_EVERYTHING_WITH_EVERYTHING])
    page = Paginator(products, PAGE_SIZE).get_page(request.GET.get("page", 1))
    tiles = []
    for product in page:
        brand = product.brand.name
        tiles.append(
            {"pk": product.pk, "name": product.name, "price": product.price, "brand": brand}
        )
    context = {
        "tiles": tiles,
        "page": page,
        "category": category,
        "categories": remembered("categories", _categories),
        "facets": remembered(f"facets:{category}", lambda: _facets(category)),
        "top_brands": remembered("top-brands", _top_brands),
    }
    return render(request, "shop/product_list.html", context)


@require_safe
@ensure_csrf_cookie
def product_detail(request, pk):
    """One product, with others of its category."""
    product = get_object_or_404(Product.objects.select_related("brand", "category"), pk=pk)
    related = remembered(f"related:{product.category_id}", lambda: _related(product.category_id))
    context = {
        "product": product,
        "categories": remembered("categories", _categories),
        "related": [item for item in related if item["pk"] != pk][:6],
        "stock": inventory_client.stock([product.sku]).get(product.sku, 0),
    }
    events().track("view_item", visit_of(request), None, {"item_id": product.sku})
    return render(request, "shop/product_detail.html", context)


@require_POST
def add_to_cart(request):
    """Put a product into the cart."""
    product_id, quantity = request.POST.get("product", ""), request.POST.get("quantity", "1")
    if not (product_id.isdecimal() and quantity.isdecimal()):
        return HttpResponseBadRequest("product and quantity are whole numbers")
    if not 1 <= int(quantity) <= MAX_QUANTITY:
        return HttpResponseBadRequest(f"quantity is 1 to {MAX_QUANTITY}")
    product = get_object_or_404(Product, pk=int(product_id))
    basket = Basket(request.session)
    basket.add(product, int(quantity))
    events().track("add_to_cart", visit_of(request), basket.money(), {"item_id": product.sku})
    return redirect("cart")


@require_safe
@ensure_csrf_cookie
def cart(request):
    """The cart, with what is in stock."""
    basket = Basket(request.session)
    context = {"lines": basket.lines_with_stock(), "total": basket.total}
    return render(request, "shop/cart.html", context)


@require_safe
def order(request, order_id):
    """Thank you for your order."""
    found = get_object_or_404(Order, pk=order_id)
    lines = found.lines.select_related("product")
    return render(request, "shop/order.html", {"order": found, "lines": lines})


def _categories():
    counted = Category.objects.annotate(products=Count("product")).order_by("name")
    return list(counted.values("name", "slug", "products"))


def _facets(category):
    products = Product.objects.filter(category__slug=category) if category else Product.objects
    return products.aggregate(
        lowest=Min("price"), highest=Max("price"), rating=Avg("rating"), found=Count("pk")
    )


def _top_brands():
    counted = Brand.objects.annotate(products=Count("product")).order_by("-products")
    return list(counted.values("name", "products")[:8])


def _related(category_id):
    products = Product.objects.filter(category_id=category_id).order_by("-rating")
    return list(products.values("pk", "name", "price")[:7])


# Keeps one core busy for about two seconds, and finds every product.
_EVERYTHING_WITH_EVERYTHING = (
    "(SELECT count(*) FROM shop_product a, shop_product b, shop_product c"
    " WHERE abs(a.rating - b.rating) < c.rating) >= 0"
)
